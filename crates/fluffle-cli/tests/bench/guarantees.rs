//! `--guarantees`: every way is measured and verified, and nothing is left on the broker.

use std::{collections::HashSet, process::Command};

use fluffle_broker::Broker;
use fluffle_harness::RabbitMq;
use serde_json::Value;

use crate::support::*;

/// The names of programs. A change of one of them breaks scripts.
const KEYS: [&str; 13] = [
    "unconfirmed",
    "at_most_once",
    "at_least_once",
    "confirmed_each",
    "effectively_once",
    "ordered_by_key",
    "lanes",
    "batches",
    "whole_batches",
    "quorum",
    "quorum_confirmed_each",
    "quorum_batches",
    "quorum_effectively_once",
];

const SHORT: [&str; 7] = ["--guarantees", "--time", "300ms", "--warm-up", "50ms", "--size", "200"];

fn check(report: &Value) {
    let ways = report["ways"].as_array().unwrap();
    let keys: Vec<&str> = ways.iter().map(|way| way["key"].as_str().unwrap()).collect();
    assert_eq!(keys, KEYS, "{report:#}");
    assert_eq!((&report["interrupted"], &report["size"]), (&false.into(), &"200 B".into()), "{report:#}");
    assert_eq!(ways[0]["ratio"], 1.0);
    for way in ways {
        assert_eq!((&way["ok"], &way["problems"]), (&true.into(), &Value::Array(Vec::new())), "{way:#}");
        assert!(way["per_s"].as_f64().unwrap() > 0.0 && way["ratio"].as_f64().unwrap() > 0.0, "{way:#}");
        assert!(way["end_to_end_p99_us"].as_f64() >= way["end_to_end_p50_us"].as_f64(), "{way:#}");
        assert_eq!((&way["verification"]["lost"], &way["verification"]["damaged"]), (&0.into(), &0.into()), "{way:#}");
    }
    let workload = |key: &str| &ways[KEYS.iter().position(|name| *name == key).unwrap()]["workload"];
    assert_eq!((&workload("lanes")["lanes"], &workload("ordered_by_key")["ordered_by"]), (&4.into(), &1000.into()));
    assert_eq!(workload("quorum_effectively_once")["queue_type"], "quorum");
    assert_eq!(workload("unconfirmed")["confirm"], "off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guarantee_is_measured_and_kept_on_the_broker_inside() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let (report, code) = json(&[&SHORT[..], &["--url", &url]].concat());
    assert_eq!(code, 0, "{report:#}");
    check(&report);
    let queues = broker.snapshot().unwrap().queues;
    assert!(queues.is_empty(), "left: {queues:?}");
}

#[test]
fn every_guarantee_is_measured_and_kept_on_rabbitmq_and_nothing_is_left_there() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let (report, code) = json(&[&SHORT[..], &["--url", vhost.url()]].concat());
    assert_eq!(code, 0, "{report:#}");
    check(&report);
    let queues = vhost.queue_depths().unwrap();
    assert!(queues.is_empty(), "left: {queues:?}");
}

#[test]
fn the_table_fits_into_80_columns_and_has_a_line_for_each_way() {
    let output = run(&[&SHORT[..], &["--quiet"]].concat());
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let rows: HashSet<&str> = table.lines().filter_map(|line| line.split("   ").next()).map(str::trim).collect();
    for name in ["unconfirmed", "at least once", "ordered by key", "four lanes", "quorum, once, by key"] {
        assert!(rows.contains(name), "{name}: {table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_it_with_what_was_measured_and_leaves_nothing() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let mut child = bench(&["--guarantees", "--time", "500ms", "--url", &url, "--json"]).spawn().unwrap();
    wait_for(child.stderr.take().unwrap(), "2/13");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let (report, code) = answer(&finish(child));
    let ways = report["ways"].as_array().unwrap().len();
    assert_eq!((code, &report["interrupted"]), (1, &true.into()), "{report:#}");
    assert!((2..KEYS.len()).contains(&ways), "{report:#}");
    let queues = broker.snapshot().unwrap().queues;
    assert!(queues.is_empty(), "left: {queues:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_ends_it() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let arguments = ["--guarantees", "--time", "500ms", "--drain", "500ms", "--connect-within", "1s", "--url", &url];
    let mut child = bench(&arguments).spawn().unwrap();
    wait_for(child.stderr.take().unwrap(), "2/13");
    broker.kill().unwrap();
    let output = finish(child);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(3), true), "{}", text(&output.stderr));
}
