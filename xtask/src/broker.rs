//! Makes sure that the servers that tests start can be started here: RabbitMQ, PostgreSQL, Prometheus and Chromium.

use std::process::{Command, Stdio};

use crate::step::{self, Failure};

/// A Debian package that the tests need.
struct Package {
    name: &'static str,
    is_installed: fn() -> bool,
    /// The variable that names the folder of its programs, if that is not a known one.
    variable: &'static str,
}

const RABBITMQ: Package =
    Package { name: "rabbitmq-server", is_installed: fluffle_harness::is_installed, variable: "FLUFFLE_RABBITMQ_BIN" };

/// Only its programs are used, not the cluster that the package creates for the system.
const POSTGRES: Package = Package {
    name: "postgresql",
    is_installed: fluffle_harness::Postgres::is_installed,
    variable: "FLUFFLE_POSTGRES_BIN",
};

/// Has promtool too. The package starts the system's own server where there is systemd; the tests do not use it.
const PROMETHEUS: Package =
    Package { name: "prometheus", is_installed: fluffle_harness::Prometheus::is_installed, variable: "PATH" };

const PUSHGATEWAY: Package = Package {
    name: "prometheus-pushgateway",
    is_installed: fluffle_harness::Pushgateway::is_installed,
    variable: "PATH",
};

/// Depends on the package chromium.
const CHROMIUM: Package =
    Package { name: "chromium-driver", is_installed: fluffle_harness::Browser::is_installed, variable: "PATH" };

/// Installs another Debian release into a folder.
const DEBOOTSTRAP: Package = Package {
    name: "debootstrap",
    is_installed: || std::path::Path::new("/usr/sbin/debootstrap").exists(),
    variable: "PATH",
};

/// Finds `rabbitmq-server`. If it is missing, installs it if the user may do so; otherwise says in one line what to do.
pub(crate) fn ensure_installed() -> Result<(), Failure> {
    ensure(&RABBITMQ)
}

/// The same for PostgreSQL.
pub(crate) fn ensure_postgres() -> Result<(), Failure> {
    ensure(&POSTGRES)
}

/// The same for Prometheus, its Pushgateway, and Chromium with its driver.
pub(crate) fn ensure_viewers() -> Result<(), Failure> {
    [&PROMETHEUS, &PUSHGATEWAY, &CHROMIUM].into_iter().try_for_each(ensure)
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
    apt_install(&[name])?;
    if (package.is_installed)() {
        return Ok(());
    }
    Err(Failure(format!("{name} was installed but its programs were not found: set {variable} to their folder")))
}

/// What a peer of another language needs, as a Debian package.
pub(crate) struct Need {
    pub(crate) package: &'static str,
    /// A program that shows that it is there, if the package is one of many ways to have it.
    program: Option<&'static str>,
}

impl Need {
    pub(crate) const fn program(package: &'static str, program: &'static str) -> Self {
        Self { package, program: Some(program) }
    }

    pub(crate) const fn library(package: &'static str) -> Self {
        Self { package, program: None }
    }

    /// Whether the program is in `PATH`, or the package is installed.
    pub(crate) fn is_met(&self) -> bool {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        match self.program {
            Some(program) => std::env::split_paths(&folders).any(|folder| folder.join(program).is_file()),
            None => {
                let mut query = Command::new("dpkg-query");
                let status = query.args(["--show", "--showformat=${db:Status-Status}", self.package]).output();
                status.is_ok_and(|status| status.stdout == b"installed")
            }
        }
    }
}

/// Installs what is missing, all at once.
pub(crate) fn install(needs: &[&Need]) -> Result<(), Failure> {
    apt_install(&needs.iter().map(|need| need.package).collect::<Vec<_>>())
}

fn apt_install(packages: &[&str]) -> Result<(), Failure> {
    let names = packages.join(" ");
    eprintln!("==> not installed: {names}");
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure(format!("there is no apt-get here: install {names} with this system's package manager")));
    }
    let Some(elevation) = as_root() else {
        return Err(Failure(format!(
            "installing {names} needs root, and there is no passwordless sudo: run \
             `sudo apt-get install -y {names}`, then try again"
        )));
    };
    step::run("refreshing the list of packages", apt_get(elevation).arg("update"))?;
    step::run(
        &format!("installing {names}"),
        apt_get(elevation).args(["install", "--yes", "--no-install-recommends"]).args(packages),
    )
}

/// The words to put before a command so that it runs as root, if that is possible.
pub(crate) fn as_root() -> Option<&'static [&'static str]> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root {
        return Some(&[]);
    }
    succeeds(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}

/// `apt-get` without questions, because there may be nobody to answer. (sudo drops the environment, and `env` sets it
/// again.)
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
