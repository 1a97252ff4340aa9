//! Development commands of the project. `cargo xtask help` lists them.

mod api;
mod book;
mod broker;
mod interop;
mod lowest;
mod packages;
mod rabbitmq4;
mod release;
mod step;
mod suite;

use std::{env, process::ExitCode};

use step::{Failure, cargo};

const HELP: &str = "\
Development commands of Fluffle.

Usage: cargo xtask <command> [arguments]

Commands:
  test [ARGS]          Run all tests, doc examples included, against a real RabbitMQ and
                       a real PostgreSQL.
                       ARGS go to the test runner, e.g. `-p fluffle-amqp` or a part of
                       a test's name; then only those tests run.
  ci                   Check the format, run clippy and rustdoc with warnings denied, then `test`.
  features             Build the framework for services with one feature and with none, warnings denied.
                       Takes some minutes, so it is no part of `ci`.
  minimal-versions     Build the packages for crates.io with the lowest versions of dependencies that their
                       manifests allow. Takes some minutes, so it is no part of `ci`.
  msrv                 Build the packages for crates.io with the lowest Rust that they name, which is
                       installed with rustup. Takes some minutes, so it is no part of `ci`.
  api [--bless]        Compare the public items of the libraries with their listings in docs/api. --bless
                       writes the listings anew.
  quakes [ARGS]        Run the flagship example; `--crash-every 50` makes it harder.
  example NAME [ARGS]  Run any example, e.g. `01_hello`, or `shop`, a service with HTTP.
                       Without NAME: list them.
  torture [ARGS]       Run publishers and consumers in a storm of faults, and check every
                       message against a model. `--broker embedded|rabbitmq|cluster`, `--seed N` or many
                       with `--seeds 1..200`, `--seconds S`; `--help` lists the rest. Fails on any
                       breach, and prints the history of the message. See docs/RELIABILITY.md.
  interop [ARGS]       Talk with programs in Python, Node, Go, C, Ruby, Java and Rust, both ways, on
                       the embedded broker and on RabbitMQ. ARGS: names of languages, and
                       `--broker embedded|rabbitmq`. Installs what is missing with apt-get, pip
                       (into target/) and npm (into target/). A language that it cannot get is
                       named, and the command fails, unless `--allow-missing` is given. See
                       interop/README.md.
  rabbitmq4 [DIR]      Install a RabbitMQ 4 into a folder (default target/rabbitmq4), with
                       debootstrap, and print how to run the tests on it. Needs root or sudo.
  book [--open]        Build the guide (book/) into target/book, with mdbook. If mdbook is missing, it is
                       installed into target/tools with cargo.
  release --dry-run    Make the packages for crates.io, build each from its package, and test a service
                       that has the packages alone. Publishes nothing. Takes some minutes, so it is no
                       part of `ci`. Uncommitted changes are refused; --allow-dirty takes them.
  help                 Show this.

Examples need no broker: without AMQP_URL they use one inside their own process.

Tests need RabbitMQ and PostgreSQL. If `rabbitmq-server` or `postgresql` is missing, it is
installed with apt-get, if the user may do that (root or passwordless sudo). Neither has to
run as a service: private ones are started on free ports and removed at the end.

Environment:
  AMQP_URL               Examples use this broker, except restart_on_failure, which starts its
                         own one, or with --rabbitmq a RabbitMQ node.
                         Tests use private nodes only, because they stop, block and kill them.
  FLUFFLE_KEEP_BROKER=1  Keep the folders (logs, data) of private nodes.
  FLUFFLE_RABBITMQ_BIN   Folder of rabbitmq-server and rabbitmqctl, if not the usual one.
  FLUFFLE_POSTGRES_BIN   Folder of initdb and postgres, if not the usual one.
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
        "features" => suite::features(),
        "minimal-versions" => lowest::dependencies(),
        "msrv" => lowest::rust(),
        "api" => api::run(arguments),
        "rabbitmq4" => rabbitmq4::install(arguments),
        "quakes" => example("quakes", arguments),
        "torture" => torture(arguments),
        "interop" => interop::run(arguments),
        "book" => book::build(arguments),
        "release" => release::run(arguments),
        "example" => match arguments.split_first() {
            Some((name, rest)) => example(name, rest),
            // Without a name for `--bin`, Cargo lists all names.
            None => step::run("no example named; these exist", cargo().args(["run", "--package", "examples", "--bin"])),
        },
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure(format!("there is no command {other:?}; `cargo xtask help` lists them"))),
    }
}

/// Needs RabbitMQ only if the torture runs on it.
fn torture(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument.ends_with("rabbitmq") || argument.ends_with("cluster")) {
        broker::ensure_installed()?;
    }
    let mut run = cargo();
    run.args(["run", "--quiet", "--package", "torture", "--"]).args(arguments);
    step::run("building and running the torture", &mut run)
}

/// Examples use the embedded broker; those that can use a RabbitMQ node do so with `--rabbitmq`.
fn example(name: &str, arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument == "--rabbitmq") {
        broker::ensure_installed()?;
    }
    let mut run = cargo();
    run.args(["run", "--quiet", "--package", "examples", "--bin", name, "--"]).args(arguments);
    Err(step::become_it(&format!("building and running the example {name}"), &mut run))
}
