//! Runs all tests, and everything that CI checks.

use std::process::{Command, Stdio};

use fluffle_harness::{NODE_VAR, RabbitMq};

use crate::{
    broker,
    step::{self, Failure, cargo, timed},
};

/// The framework's tests that run on both brokers (see `crates/fluffle/tests/support/place.rs`).
const ON_BOTH: [&str; 16] = [
    "bad_days",
    "batches",
    "batches_end_to_end",
    "batching",
    "connecting",
    "cores",
    "flow",
    "foreign",
    "living",
    "order",
    "pool",
    "publishing",
    "replaying",
    "requesting",
    "settling",
    "traps",
];

/// Checks format and lints, and runs the tests.
pub(crate) fn ci() -> Result<(), Failure> {
    step::run("checking the format", cargo().args(["fmt", "--all", "--check"]))?;
    step::run(
        "running clippy, warnings denied",
        cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    test(&[])
}

/// Runs the tests that `arguments` select, or all.
pub(crate) fn test(arguments: &[String]) -> Result<(), Failure> {
    broker::ensure_installed()?;
    broker::ensure_postgres()?;
    let nextest = has_nextest();
    // Build before the node starts, so that the node does not idle during a cold build.
    step::run("building the tests", tests(nextest, arguments).arg("--no-run"))?;
    // Start one node for all tests: a test process that finds it in its environment uses it instead of booting its own.
    let node = timed("starting the RabbitMQ node that the tests share", || Ok(RabbitMq::to_share().start()?))?;
    step::run("running the tests", tests(nextest, arguments).env(NODE_VAR, node.folder()))?;
    if arguments.is_empty() {
        let again: Vec<String> = ON_BOTH.iter().flat_map(|file| ["--test", file]).map(str::to_owned).collect();
        let again = [&["-p".to_owned(), "fluffle".to_owned()], &again[..]].concat();
        let mut run = tests(nextest, &again);
        step::run("running the framework's tests on the embedded broker", run.env("FLUFFLE_TEST_BROKER", "embedded"))?;
    }
    if nextest && arguments.is_empty() {
        // nextest does not run documentation examples, so cargo does.
        step::run("running the documentation's examples", cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    eprintln!("==> all tests passed");
    Ok(())
}

/// cargo-nextest runs each test in its own process with a time limit; without it, cargo's own runner is used.
fn tests(nextest: bool, arguments: &[String]) -> Command {
    let mut command = cargo();
    command.args(if nextest { &["nextest", "run"][..] } else { &["test", "--no-fail-fast"] });
    if !arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(arguments);
    command
}

fn has_nextest() -> bool {
    let mut probe = cargo();
    probe.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
