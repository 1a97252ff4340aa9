//! Makes sure that a private RabbitMQ node can be started here, and a private PostgreSQL server.

use std::process::{Command, Stdio};

use crate::step::{self, Failure};

/// A Debian package the tests need.
struct Package {
    name: &'static str,
    is_installed: fn() -> bool,
    /// Names the folder of its programs when they are in none that is known.
    variable: &'static str,
}

const RABBITMQ: Package =
    Package { name: "rabbitmq-server", is_installed: fluffle_harness::is_installed, variable: "FLUFFLE_RABBITMQ_BIN" };

/// Installed for its programs: the cluster that the package makes for the system is not used.
const POSTGRES: Package = Package {
    name: "postgresql",
    is_installed: fluffle_harness::Postgres::is_installed,
    variable: "FLUFFLE_POSTGRES_BIN",
};

/// Installs another Debian into a folder.
const DEBOOTSTRAP: Package = Package {
    name: "debootstrap",
    is_installed: || std::path::Path::new("/usr/sbin/debootstrap").exists(),
    variable: "PATH",
};

/// Finds `rabbitmq-server`, or installs it when this user may, or says in one line what to do.
pub(crate) fn ensure_installed() -> Result<(), Failure> {
    ensure(&RABBITMQ)
}

/// The same for PostgreSQL.
pub(crate) fn ensure_postgres() -> Result<(), Failure> {
    ensure(&POSTGRES)
}

/// The same for debootstrap.
pub(crate) fn ensure_debootstrap() -> Result<(), Failure> {
    ensure(&DEBOOTSTRAP)
}

fn ensure(package: &Package) -> Result<(), Failure> {
    if (package.is_installed)() {
        return Ok(());
    }
    let Package { name, variable, .. } = package;
    eprintln!("==> {name} is not installed");
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure(format!("there is no apt-get here: install {name} with this system's package manager")));
    }
    let Some(elevation) = as_root() else {
        return Err(Failure(format!(
            "installing {name} takes root, and there is no passwordless sudo: run `sudo apt-get install -y {name}`, then try again"
        )));
    };
    step::run("refreshing the list of packages", apt_get(elevation).arg("update"))?;
    step::run(
        &format!("installing {name}"),
        apt_get(elevation).args(["install", "--yes", "--no-install-recommends", name]),
    )?;
    if (package.is_installed)() {
        return Ok(());
    }
    Err(Failure(format!("{name} was installed but its programs were not found: set {variable} to their folder")))
}

/// What comes before a command for it to run as root, if anything can.
pub(crate) fn as_root() -> Option<&'static [&'static str]> {
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
