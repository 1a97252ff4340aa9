//! All tests, and all that CI asks for.

use std::process::{Command, Stdio};

use fluffle_harness::{NODE_VAR, RabbitMq};

use crate::{
    broker,
    step::{self, Failure, cargo, timed},
};

/// The modules of `crates/fluffle/tests/it` that the second run, on the embedded broker, leaves out. Most of them start
/// the broker they need themselves, so a second run would repeat the first. All other modules run on either broker, as
/// `crates/fluffle/tests/support/place.rs` gives it to them.
const ONCE: [&str; 10] = [
    "consume::effectively_once",
    "consume::panic_messages",
    "publish::journal",
    "publish::not_sent",
    "service::actors",
    "service::beside",
    "service::draining",
    "service::faults",
    "service::storm",
    "service::testing",
];

/// Features that services have alone, or not at all. In the build of the whole workspace all are on, so nothing there
/// notices code that needs a feature and does not say so.
const FEATURES: [&str; 10] = [
    "",
    "fluffle/embedded",
    "fluffle/json",
    "fluffle/store",
    "fluffle/telemetry",
    "fluffle/traces",
    "fluffle-outbox/postgres",
    "fluffle-outbox/sqlite",
    "fluffle-telemetry/metrics-facade",
    "fluffle-telemetry/otlp",
];

/// The crates that these features change. The outbox is built with its own features only, because it needs one.
const OF_SERVICES: [&str; 5] = ["fluffle", "fluffle-amqp", "fluffle-store", "fluffle-telemetry", "fluffle-wire"];

/// Checks format, lints and documentation, and runs the tests.
pub(crate) fn ci() -> Result<(), Failure> {
    step::run("checking the format", cargo().args(["fmt", "--all", "--check"]))?;
    step::run(
        "running clippy, warnings denied",
        cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    step::run(
        "building the documentation, warnings denied",
        cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    test(&[])
}

/// Runs the tests that `arguments` select, or all of them.
pub(crate) fn test(arguments: &[String]) -> Result<(), Failure> {
    broker::ensure_installed()?;
    broker::ensure_postgres()?;
    broker::ensure_viewers()?;
    let nextest = has_nextest();
    // Built before the node starts: a broker need not sit idle through a cold build.
    step::run("building the tests", tests(nextest, arguments).arg("--no-run"))?;
    // One node for all: a test process that finds it in its environment attaches to it instead of booting its own.
    let node = timed("starting the RabbitMQ node that the tests share", || Ok(RabbitMq::to_share().start()?))?;
    step::run("running the tests", tests(nextest, arguments).env(NODE_VAR, node.folder()))?;
    if arguments.is_empty() {
        let mut run = tests(nextest, &on_either_broker());
        step::run("running the framework's tests on the embedded broker", run.env("FLUFFLE_TEST_BROKER", "embedded"))?;
    }
    if nextest && arguments.is_empty() {
        // nextest does not run documentation examples, so cargo does.
        step::run("running the documentation's examples", cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    eprintln!("==> all tests passed");
    Ok(())
}

/// Builds the framework for services of one feature, warnings denied.
pub(crate) fn features() -> Result<(), Failure> {
    for feature in FEATURES {
        let what = if feature.is_empty() { "no feature".to_owned() } else { format!("the feature {feature} alone") };
        let mut clippy = cargo();
        clippy.args(["clippy", "--quiet", "--no-default-features"]);
        clippy.args(OF_SERVICES.iter().flat_map(|package| ["--package", package]));
        if !feature.is_empty() {
            let of = feature.split_once('/').map_or("fluffle", |(package, _)| package);
            clippy.args(["--package", of, "--features", feature]);
        }
        step::run(&format!("building for services with {what}"), clippy.args(["--", "-D", "warnings"]))?;
    }
    eprintln!("==> {} selections of features can be built", FEATURES.len());
    Ok(())
}

/// The arguments that select the tests for the second run. nextest takes `--skip` behind `--`, as cargo's own runner
/// does.
fn on_either_broker() -> Vec<String> {
    let selected = ["-p", "fluffle", "--test", "it", "--"].map(str::to_owned);
    let left_out = ONCE.iter().flat_map(|module| ["--skip".to_owned(), format!("{module}::")]);
    selected.into_iter().chain(left_out).collect()
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::ONCE;

    #[test]
    fn each_module_that_runs_once_exists() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/fluffle/tests/it");
        for module in ONCE {
            assert!(tests.join(module.replace("::", "/")).with_extension("rs").is_file(), "no module {module}");
        }
    }
}
