//! One run: its report and its exit codes.

use std::{process::Command, time::Duration};

use fluffle_broker::{Broker, Direction, Fault, Target};
use serde_json::Value;

use crate::support::*;

#[test]
fn every_message_of_a_counted_run_is_accounted_for() {
    let (report, code) = json(&["--count", "3000", "--producers", "2", "--queues", "3", "--size", "100-300"]);
    assert_eq!(code, 0, "{report:#}");
    let throughput = &report["throughput"];
    for key in ["published", "confirmed", "handled"] {
        assert_eq!(throughput[key], 3000, "{key}: {report:#}");
    }
    let expected =
        [("sent", 3000), ("received", 3000), ("lost", 0), ("duplicates", 0), ("out_of_order", 0), ("damaged", 0)];
    for (key, value) in expected {
        assert_eq!(report["verification"][key], value, "{key}: {report:#}");
    }
    assert_eq!(report["verdict"]["ok"], true);
    for key in ["confirm", "end_to_end"] {
        let at = |name: &str| report[key][name].as_f64().unwrap();
        assert_eq!(report[key]["count"], 3000, "{key}");
        let rising = ["p50_us", "p75_us", "p95_us", "p99_us", "p99_9_us", "max_us"].map(at);
        assert!(rising[0] > 0.0 && rising.is_sorted(), "{key}: {rising:?}");
    }
    let shares: f64 = report["stages"].as_array().unwrap().iter().filter_map(|stage| stage["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{report:#}");
    assert_eq!(report["workload"]["broker"], "embedded");
    assert!(report["process"]["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);
}

#[test]
fn an_open_loop_keeps_its_rate_and_says_so() {
    let (report, code) = json(&["--rate", "400", "--time", "1s", "--warm-up", "200ms"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["workload"]["rate"], 400.0);
    // 400 messages were due within the second, whenever they were sent.
    assert_eq!(report["end_to_end"]["count"], 400, "{report:#}");
}

/// Coordinated omission: the broker stands still for three seconds of three and a half. Meanwhile more messages are due
/// than publisher and mailbox can hold, so the generator itself is delayed. The messages that it could not send in time
/// must count their wait like the others: more than half of all messages were due in the first two of these seconds.
#[test]
fn a_stall_is_in_the_latency_of_every_message_that_was_due_meanwhile() {
    let broker = Broker::start().unwrap();
    let terms = ["--url", &broker.url(), "--rate", "800", "--time", "3500ms", "--warm-up", "0s", "--json"];
    let mut child = bench(&[&terms[..], &["--confirm", "window:8", "--size", "100"]].concat()).spawn().unwrap();
    wait_for(child.stderr.take().unwrap(), "in flight");
    let stall = Fault::Stall { direction: Direction::Both, time: Duration::from_secs(3) };
    broker.faults().strike(stall, Target::all()).unwrap();
    let (report, code) = answer(&finish(child));
    assert_eq!(code, 0, "{report:#}");
    for key in ["confirm", "end_to_end"] {
        assert_eq!(report[key]["count"], 2800, "{report:#}");
        assert!(report[key]["p50_us"].as_f64().unwrap() > 1e6, "{report:#}");
    }
}

#[test]
fn each_guarantee_and_way_to_confirm_runs_clean() {
    let ways: [&[&str]; 6] = [
        &["--ack", "at-most-once", "--confirm", "off"],
        &["--ack", "effectively-once", "--confirm", "window:64"],
        &["--confirm", "each", "--queue-type", "quorum"],
        &["--consumers", "4", "--gzip", "6", "--payload", "compressible"],
        &["--transient", "--gzip", "auto", "--prefetch", "1"],
        &["--consumers", "0"],
    ];
    for way in ways {
        let (report, code) = json(&[way, &["--count", "500"]].concat());
        assert_eq!(code, 0, "{way:?}: {report:#}");
        assert_eq!(report["throughput"]["confirmed"], 500, "{way:?}: {report:#}");
        let moved = |second: &Value| second["published_mb_per_s"].as_f64().unwrap() > 0.0;
        assert!(report["seconds"].as_array().unwrap().iter().any(moved), "{way:?}: {report:#}");
        let gzip = way.iter().position(|word| *word == "--gzip").map_or("off", |at| way[at + 1]);
        assert_eq!((&report["workload"]["gzip"], &report["batches"]), (&Value::from(gzip), &Value::Null), "{report:#}");
    }
}

#[test]
fn batches_are_accounted_for_message_by_message() {
    let ways: [&[&str]; 4] = [
        &["--batch"],
        &["--batch", "4KiB,1ms", "--whole-batches", "--gzip", "auto", "--payload", "compressible"],
        &["--batch", "1MiB,5ms,7", "--queues", "3", "--producers", "2", "--consumers", "6"],
        &["--batch", "--ack", "effectively-once", "--rate", "2000"],
    ];
    for way in ways {
        let (report, code) = json(&[way, &["--count", "3000", "--size", "100"]].concat());
        assert_eq!(code, 0, "{way:?}: {report:#}");
        for key in ["published", "confirmed", "handled"] {
            assert_eq!(report["throughput"][key], 3000, "{way:?}: {report:#}");
        }
        assert_eq!(report["verification"]["received"], 3000, "{way:?}: {report:#}");
        let of = |key: &str| report["batches"][key].as_f64().unwrap();
        assert_eq!((of("received") * of("messages_each")).round(), 3000.0, "{way:?}: {report:#}");
        let most = if way.contains(&"1MiB,5ms,7") { 7.0 } else { 3000.0 };
        assert!((1.0..=most).contains(&of("messages_each")), "{way:?}: {report:#}");
    }
}

#[tokio::test]
async fn a_restart_of_the_broker_costs_no_message_of_a_batch() {
    let broker = Broker::start().unwrap();
    let (report, code) = with_a_restart(&broker, &["--batch", "1KiB,1ms", "--size", "100"]).await;
    assert_eq!((code, &report["verification"]["lost"]), (0, &Value::from(0)), "{report:#}");
}

#[test]
fn records_of_a_file_are_what_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let (report, code) = json(&["--count", "50", "--payload", &format!("file:{}", path.display())]);
    assert_eq!((code, &report["workload"]["size"]), (0, &Value::from("3 records")), "{report:#}");
}

#[test]
fn a_queue_that_drops_messages_is_a_loss_with_its_reason_and_exit_code_2() {
    let lossy = ["--count", "3000", "--prefetch", "1", "--queue-arg", "x-max-length=1", "--drain", "500ms"];
    let output = run(&lossy);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{report}");
    assert!(report.contains("LOST: ") && report.contains("confirmed by the broker"), "{report}");
    assert!(report.contains("x-max-length is set: past it a queue drops its oldest"), "{report}");
    let (report, code) = json(&lossy);
    let found = |key: &str| report["verification"][key].as_u64().unwrap();
    assert_eq!((code, found("lost") + found("received")), (2, 3000), "{report:#}");
    assert!(!report["verification"]["first_lost"].as_array().unwrap().is_empty());
}

/// Starts a run on `broker`, and restarts the broker when more messages wait there than can be unconfirmed. Returns the
/// report and the exit code.
async fn with_a_restart(broker: &Broker, arguments: &[&str]) -> (Value, i32) {
    let url = broker.url();
    let terms =
        ["--url", &url, "--time", "1s", "--warm-up", "0s", "--confirm", "window:64", "--prefetch", "1", "--json"];
    let child = bench(&[&terms, arguments].concat()).spawn().unwrap();
    let under_way = broker.until(LIMIT, |state| state.queues.iter().any(|queue| queue.ready > 200)).await;
    under_way.unwrap();
    broker.kill().unwrap();
    broker.start_again().unwrap();
    answer(&tokio::task::spawn_blocking(move || finish(child)).await.unwrap())
}

#[tokio::test]
async fn a_restart_of_the_broker_costs_no_durable_message() {
    let broker = Broker::start().unwrap();
    let (report, code) = with_a_restart(&broker, &[]).await;
    assert_eq!((code, &report["verification"]["lost"]), (0, &Value::from(0)), "{report:#}");
    assert!(report["incidents"]["reconnects"].as_u64().unwrap() > 0, "{report:#}");
}

#[tokio::test]
async fn a_restart_of_the_broker_loses_transient_messages_and_that_is_said() {
    let broker = Broker::start().unwrap();
    let (report, code) = with_a_restart(&broker, &["--transient", "--drain", "1s"]).await;
    assert_eq!(code, 2, "{report:#}");
    assert!(report["verification"]["lost"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["verdict"]["notes"].to_string().contains("--transient"), "{report:#}");
}

#[tokio::test]
async fn a_broker_that_does_not_come_back_is_said_to_be_away() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let terms = ["--url", &url, "--time", "1s", "--warm-up", "0s", "--confirm", "window:64", "--prefetch", "1"];
    let child = bench(&[&terms[..], &["--drain", "500ms", "--json"]].concat()).spawn().unwrap();
    broker.until(LIMIT, |state| state.queues.iter().any(|queue| queue.ready > 200)).await.unwrap();
    broker.kill().unwrap();
    let (report, code) = answer(&tokio::task::spawn_blocking(move || finish(child)).await.unwrap());
    assert_eq!(code, 2, "{report:#}");
    assert!(report["verdict"]["notes"].to_string().contains("the broker is away"), "{report:#}");
}

#[test]
fn a_run_that_cannot_be_made_says_why_and_ends_with_code_3() {
    let cases: [(&[&str], &str); 6] = [
        (&["--url", "http://localhost"], "not an AMQP URI"),
        (&["--url", "amqp://guest:guest@localhost:1", "--connect-within", "300ms"], "is it running"),
        (&["--payload", "file:/no/such/file"], "No such file"),
        (&["--size", "3"], "at least 30 bytes"),
        (&["--html", "/no/such/folder/report.html"], "--html /no/such/folder/report.html"),
        (&["--time", "5s", "--count", "5"], "cannot be used with"),
    ];
    for (arguments, words) in cases {
        let output = run(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
        assert!(error.contains(words) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}

#[test]
fn ctrl_c_ends_a_run_early_with_its_report() {
    let mut child = bench(&["--time", "1h", "--warm-up", "0s", "--json"]).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    wait_for(stderr, " 1.");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let (report, code) = answer(&finish(child));
    assert_eq!((code, &report["end"]), (0, &Value::from("interrupted")), "{report:#}");
    assert!(report["throughput"]["handled"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["verification"]["lost"], 0, "{report:#}");
}

#[test]
fn the_page_needs_nothing_but_itself_and_holds_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (path, records) = (folder.path().join("report.html"), folder.path().join("<b>"));
    std::fs::write(&records, "one\n").unwrap();
    let records = format!("file:{}", records.display());
    let output = run(&["--count", "200", "--quiet", "--payload", &records, "--html", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("\\u003cb>") && !page.contains("<b>"), "names from outside are no markup");
    assert!(page.starts_with("<!doctype html>") && page.contains("\"handled\":200"), "{page}");
    let outside: Vec<&str> =
        page.split('"').filter(|part| part.starts_with("http") && !part.contains("w3.org")).collect();
    assert!(outside.is_empty() && !page.contains("src="), "{outside:?}");
}
