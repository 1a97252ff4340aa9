//! Runs the program.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fluffle_harness::RabbitMq;
use serde_json::Value;

/// The limit for one run, in seconds: all waits inside the program are shorter.
const LIMIT: &str = "60";

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) error: String,
}

/// The report of a run with `--json`.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) code: i32,
    pub(crate) json: Value,
}

pub(crate) fn doctor(arguments: &[&str]) -> Run {
    // coreutils' timeout ends a run that hangs, with the exit code 124.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT, env!("CARGO_BIN_EXE_fluffle"), "doctor"]).args(arguments);
    for variable in ["AMQP_URL", "RABBITMQ_API", "AMQP_PASSWORD_FILE", "RUST_LOG"] {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("it hung: {}", text(&output.stderr)));
    Run { code, text: text(&output.stdout), error: text(&output.stderr) }
}

pub(crate) fn json(arguments: &[&str]) -> Report {
    let run = doctor(&[arguments, &["--json"]].concat());
    let json = serde_json::from_str(&run.text);
    let json = json.unwrap_or_else(|error| panic!("{error}: {} {} ({})", run.text, run.error, run.code));
    Report { code: run.code, json }
}

/// Examines again and again until `enough`: the management API tells of changes some seconds late.
pub(crate) fn json_until(arguments: &[&str], enough: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = json(arguments);
        if enough(&report) || Instant::now() > deadline {
            return report;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// Whether the tests run on RabbitMQ 4, whose defaults and policies differ.
pub(crate) fn is_version_4(broker: &RabbitMq) -> bool {
    broker.eval("list_to_binary(rabbit_misc:version())").unwrap().starts_with("4.")
}

impl Report {
    pub(crate) fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    /// The first finding of this kind, about an entity whose name contains this.
    pub(crate) fn find(&self, id: &str, entity: &str) -> Option<&Value> {
        let is_it = |finding: &&Value| finding["id"] == id && finding["entity"].as_str().unwrap().contains(entity);
        self.findings().iter().find(is_it)
    }

    /// Kinds and entities, for messages of failed tests.
    pub(crate) fn list(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let one = |finding: &Value| (text(&finding["id"]), text(&finding["entity"]), text(&finding["what"]));
        self.findings().iter().map(one).collect()
    }

    pub(crate) fn is_unknown(&self, what: &str) -> bool {
        self.json["unknown"].as_array().unwrap().iter().any(|unknown| unknown["what"].as_str().unwrap().contains(what))
    }
}
