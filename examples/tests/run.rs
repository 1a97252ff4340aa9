//! Every example runs, with nothing installed, and ends with the counts it claims.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The longest takes about 20 s, most of it on purpose.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs an example on the broker inside it.
fn run(program: &str, arguments: &[&str]) -> (String, String) {
    run_with(program, arguments, &[])
}

/// Runs an example on the broker inside it, with these environment variables.
fn run_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .env_remove("AMQP_URL")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = finish(child);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{program}: {}\n{out}\n{err}", output.status);
    (out, err)
}

/// Waits with a deadline; its pipes are read meanwhile, or it might wait for them.
fn finish(child: Child) -> Output {
    let pid = child.id().to_string();
    let (ended, waits) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waits.recv_timeout(LIMIT).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
    });
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    assert!(began.elapsed() < LIMIT, "it hung: {}", String::from_utf8_lossy(&output.stdout));
    output
}

fn last_line(out: &str) -> &str {
    out.trim_end().lines().last().unwrap_or_default()
}

macro_rules! lesson {
    ($name:ident, $program:literal, $arguments:expr, $wanted:expr) => {
        #[test]
        fn $name() {
            let (out, err) = run(env!(concat!("CARGO_BIN_EXE_", $program)), &$arguments);
            let line = last_line(&out);
            assert!(line.starts_with($wanted), "{line}\n\n{out}\n{err}");
            assert!(err.starts_with("AMQP_URL is not set: using a broker inside this process"), "{err}");
        }
    };
}

lesson!(lesson_1_says_hello, "01_hello", [], "01_hello: published=3 handled=3");
lesson!(lesson_2_shares_work, "02_work_queue", [], "02_work_queue: published=40 handled=40 ");
lesson!(
    lesson_3_reaches_everybody,
    "03_publish_subscribe",
    [],
    "03_publish_subscribe: published=3 subscribers=3 handled=9"
);
lesson!(lesson_4_routes, "04_routing", [], "04_routing: published=5 archive=5 pager=2");
lesson!(lesson_5_matches_patterns, "05_topics", [], "05_topics: published=6 returned=1 ");
lesson!(lesson_6_answers, "06_request_reply", [], "06_request_reply: answered=51 refused=1 timed_out=1");
lesson!(lesson_7_retries_and_buries, "07_pipeline", [], "07_pipeline: published=12 shipped=11 dead=1 retried=3");
lesson!(lesson_8_reads_a_topology, "08_topology_from_toml", [], "08_topology_from_toml: published=3 ");
lesson!(
    lesson_9_gathers,
    "09_batches",
    ["--messages", "20000"],
    "09_batches: published=20000+20000 handled=20000+20000"
);
lesson!(lesson_10_sorts_by_type, "10_several_types", [], "10_several_types: published=6 handled=5 dead=1");
lesson!(lesson_11_goes_on_where_it_was, "11_stream_reader", [], "11_stream_reader: published=1707 first=");
lesson!(lesson_12_reads_settings, "12_settings", [], "12_settings: published=3 baked=2 attempts=3");
lesson!(
    quakes_loses_nothing,
    "quakes",
    [],
    "quakes: published=1707 confirmed=1707 alerts=85 regions=1707 archive=1707 lost=0 duplicates=0 restarts=0"
);

#[test]
fn lesson_12_is_overridden_by_the_environment() {
    let variables = [("BAKERY__CONSUME__RETRY__ATTEMPTS", "2"), ("BAKERY__BROKER__PASSWORD", "guest")];
    let (out, err) = run_with(env!("CARGO_BIN_EXE_12_settings"), &[], &variables);
    assert_eq!(last_line(&out), "12_settings: published=3 baked=2 attempts=2", "{out}\n{err}");
    for refused in ["invalid value: integer `0`, expected a whole number from 1 to 65535", "unknown field `hartbeat`"] {
        assert!(out.contains(refused), "{out}");
    }
}

#[test]
fn quakes_loses_nothing_while_its_handlers_crash() {
    let (out, err) = run(env!("CARGO_BIN_EXE_quakes"), &["--crash-every", "50"]);
    let line = last_line(&out);
    let wanted =
        "quakes: published=1707 confirmed=1707 alerts=85 regions=1707 archive=1707 lost=0 duplicates=0 restarts=";
    let restarts = line.strip_prefix(wanted).unwrap_or_else(|| panic!("{line}\n\n{out}\n{err}"));
    assert!(restarts.parse::<u32>().unwrap() > 0, "{line}");
}

#[test]
fn restart_on_failure_accounts_for_every_message() {
    let (out, err) = run(env!("CARGO_BIN_EXE_restart_on_failure"), &[]);
    let line = last_line(&out);
    assert!(line.starts_with("restart_on_failure: published=") && line.ends_with(" lost=0"), "{line}\n\n{out}\n{err}");
    for scene in ["1. A handler panics", "2. The broker closes a channel", "3. A connection is cut", "4. The broker is"]
    {
        assert!(out.contains(scene), "{scene} is missing:\n{out}");
    }
}
