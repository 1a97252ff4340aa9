//! The broker as a command, tested from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    pin::pin,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use common::run;
use futures_util::StreamExt;
use lapin::{Connection, ConnectionProperties, Event};

/// The running command; killed when dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    errors: ChildStderr,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle-broker"));
        command.args(arguments).env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let errors = child.stderr.take().unwrap();
        Self { child, output, errors }
    }

    /// The URL on its first line.
    fn url(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code, and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

#[test]
fn the_first_line_says_how_to_connect() {
    let mut command = Running::start(&["--listen", "127.0.0.1:0"]);
    let url = command.url();
    run(async { connect(&url).await.unwrap().create_channel().await.unwrap() });
}

#[test]
fn users_and_virtual_hosts_can_be_added() {
    let mut command = Running::start(&["--listen", "127.0.0.1:0", "--vhost", "tests", "--user", "ann:with:colons"]);
    let url = command.url();
    let as_ann = |password| url.replace("guest:guest", &format!("ann:{password}")).replace("%2f", "tests");
    run(async {
        connect(&as_ann("with%3Acolons")).await.unwrap();
        assert!(connect(&as_ann("with")).await.is_err());
    });
}

#[test]
fn a_user_without_a_password_is_explained() {
    let (code, errors) = Running::start(&["--user", "ann"]).end();
    assert_eq!(code, Some(2));
    assert!(errors.contains("expected a name, a colon and a password"), "{errors}");
}

#[test]
fn ctrl_c_and_sigterm_say_goodbye_to_clients() {
    for name in ["INT", "TERM"] {
        let mut command = Running::start(&["--listen", "127.0.0.1:0"]);
        let url = command.url();
        let error = run(async {
            let connection = connect(&url).await.unwrap();
            let events = connection.events_listener();
            command.signal(name);
            let mut errors = pin!(events.filter_map(async |event| match event {
                Event::Error(error) => Some(error),
                _ => None,
            }));
            errors.next().await.unwrap().to_string()
        });
        assert!(error.contains("CONNECTION_FORCED"), "{name}: {error}");
        assert_eq!(command.end(), (Some(0), String::new()), "{name}");
    }
}

#[test]
fn a_port_that_is_taken_is_one_line_and_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, errors) = Running::start(&["--listen", &address]).end();
    assert_eq!(code, Some(1));
    let start = format!("fluffle-broker: the broker cannot listen on {address}: ");
    assert!(
        errors.starts_with(&start) && errors.contains("choose a free port") && errors.lines().count() == 1,
        "{errors}"
    );
}
