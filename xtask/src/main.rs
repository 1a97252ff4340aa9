//! The project's own chores. `cargo xtask help` lists them.

mod broker;
mod rabbitmq4;
mod step;
mod suite;

use std::{env, process::ExitCode};

use step::{Failure, cargo};

const HELP: &str = "\
The chores of Fluffle.

Usage: cargo xtask <command> [arguments]

Commands:
  test [ARGS]          Run all tests, doc examples included, against a real RabbitMQ and
                       a real PostgreSQL.
                       ARGS go to the test runner, e.g. `-p fluffle-amqp` or a part of
                       a test's name; then only those tests run.
  ci                   Check the format, run clippy with warnings denied, then `test`.
  quakes [ARGS]        Run the flagship example; `--crash-every 50` makes it harder.
  example NAME [ARGS]  Run any example, e.g. `01_hello`, or `shop`, a service with HTTP.
                       Without NAME: list them.
  torture [ARGS]       Publishers, consumers and a storm of faults, held against a model of
                       every message. `--broker embedded|rabbitmq`, `--seed N` or many with
                       `--seeds 1..200`, `--seconds S`; `--help` lists the rest. Fails on any
                       breach, with the history of the message. See docs/RELIABILITY.md.
  rabbitmq4 [DIR]      Install a RabbitMQ 4 into a folder (default target/rabbitmq4), with
                       debootstrap, and say how to run the tests on it. Needs root or sudo.
  help                 Show this.

Examples need nothing: without AMQP_URL they use a broker inside their own process.

Tests need RabbitMQ and PostgreSQL. When `rabbitmq-server` or `postgresql` is missing it is
installed with apt-get, if this user may do that (root or passwordless sudo). Neither need
run as a service: private ones are started on ports of their own and removed at the end.

Environment:
  AMQP_URL               Examples use this broker; restart_on_failure has its own, or with
                         --rabbitmq a RabbitMQ node.
                         Tests keep to private nodes: they stop, block and kill them.
  FLUFFLE_KEEP_BROKER=1  Keep the folders (logs, data) of private nodes.
  FLUFFLE_RABBITMQ_BIN   The folder of rabbitmq-server and rabbitmqctl, if it is unusual.
  FLUFFLE_POSTGRES_BIN   The folder of initdb and postgres, if it is unusual.
";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let command = arguments.next().unwrap_or_else(|| "help".into());
    let rest: Vec<String> = arguments.collect();
    match run(&command, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, arguments: &[String]) -> Result<(), Failure> {
    match command {
        "test" => suite::test(arguments),
        "ci" => suite::ci(),
        "rabbitmq4" => rabbitmq4::install(arguments),
        "quakes" => example("quakes", arguments),
        "torture" => torture(arguments),
        "example" => match arguments.split_first() {
            Some((name, rest)) => example(name, rest),
            // Cargo answers a `--bin` without a name with the list of names.
            None => step::run("no example named; these exist", cargo().args(["run", "--package", "examples", "--bin"])),
        },
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure(format!("there is no command {other:?}; `cargo xtask help` lists them"))),
    }
}

/// Needs RabbitMQ only if it is what is to be tortured.
fn torture(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument.ends_with("rabbitmq")) {
        broker::ensure_installed()?;
    }
    let mut run = cargo();
    run.args(["run", "--quiet", "--package", "torture", "--"]).args(arguments);
    step::run("building and running the torture", &mut run)
}

/// Examples need no broker but the one inside them; those that can take a RabbitMQ node do so with `--rabbitmq`.
fn example(name: &str, arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument == "--rabbitmq") {
        broker::ensure_installed()?;
    }
    let mut run = cargo();
    run.args(["run", "--quiet", "--package", "examples", "--bin", name, "--"]).args(arguments);
    Err(step::become_it(&format!("building and running the example {name}"), &mut run))
}
