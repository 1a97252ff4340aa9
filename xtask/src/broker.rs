//! Makes sure that a private RabbitMQ node can be started here.

use std::process::{Command, Stdio};

use crate::step::{self, Failure};

const PACKAGE: &str = "rabbitmq-server";

/// Finds `rabbitmq-server`, or installs it when this user may, or says in one line what to do.
pub(crate) fn ensure_installed() -> Result<(), Failure> {
    if fluffle_harness::is_installed() {
        return Ok(());
    }
    eprintln!("==> {PACKAGE} is not installed");
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure(format!("there is no apt-get here: install {PACKAGE} with this system's package manager")));
    }
    let Some(elevation) = elevation() else {
        return Err(Failure(format!(
            "installing {PACKAGE} takes root, and there is no passwordless sudo: run `sudo apt-get install -y {PACKAGE}`, then try again"
        )));
    };
    step::run("refreshing the list of packages", apt_get(elevation).arg("update"))?;
    step::run(
        &format!("installing {PACKAGE}"),
        apt_get(elevation).args(["install", "--yes", "--no-install-recommends", PACKAGE]),
    )?;
    if fluffle_harness::is_installed() {
        return Ok(());
    }
    Err(Failure(format!(
        "{PACKAGE} was installed but its scripts were not found: set FLUFFLE_RABBITMQ_BIN to their folder"
    )))
}

/// What comes before a command for it to run as root, if anything can.
fn elevation() -> Option<&'static [&'static str]> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root {
        return Some(&[]);
    }
    succeeds(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}

/// `apt-get` that asks no questions: there may be nobody to answer. (sudo drops the environment, `env` gives it back.)
fn apt_get(elevation: &[&str]) -> Command {
    let words = elevation.iter().chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"]);
    let mut words = words.copied();
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words).stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
