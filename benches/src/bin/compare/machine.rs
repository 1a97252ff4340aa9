//! A description of the machine, without which the figures mean little to other readers.

use std::{collections::BTreeMap, fmt, fs, process::Command, thread};

use serde::Serialize;

/// The versions of the compared libraries, from the lock file of this build.
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The machine and its software. Unknown values are null.
#[derive(Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    pub(crate) cores: Option<usize>,
    pub(crate) memory_gib: Option<u64>,
    pub(crate) kernel: Option<String>,
    pub(crate) rustc: Option<String>,
    pub(crate) rabbitmq: Option<String>,
    pub(crate) versions: BTreeMap<&'static str, &'static str>,
}

impl Machine {
    /// Describes this machine, with this broker.
    pub(crate) fn here(rabbitmq: Option<String>) -> Self {
        let versions = ["lapin", "amqprs", "ruststream", "ruststream-lapin", "fluffle"];
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().ok().map(usize::from),
            memory_gib: field("/proc/meminfo", "MemTotal").as_deref().and_then(gib),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            rustc: rustc(),
            rabbitmq,
            versions: versions.into_iter().filter_map(|name| Some((name, locked(name)?))).collect(),
        }
    }
}

/// The version of the `rustc` in the path. This is wrong if another one built the program.
fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The value of `name: value`, the first of that name.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn gib(kib: &str) -> Option<u64> {
    let kib: u64 = kib.split(' ').next()?.parse().ok()?;
    Some(kib.div_ceil(1 << 20))
}

fn locked(name: &str) -> Option<&'static str> {
    let (_, after) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split_once('"')?.0)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
        let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |value| value.to_string());
        let cores = number(self.cores.map(|cores| cores as u64));
        writeln!(f, "{cores} × {}, {} GiB, Linux {}", known(&self.cpu), number(self.memory_gib), known(&self.kernel))?;
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        write!(f, "RabbitMQ {}; {}; {}", known(&self.rabbitmq), known(&self.rustc), versions.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_has_its_version() {
        let versions = Machine::here(None).versions;
        assert_eq!(versions.len(), 5, "{versions:?}");
        assert!(versions["lapin"].starts_with("4."));
    }

    #[test]
    fn memory_is_rounded_up() {
        assert_eq!(gib("16384000 kB"), Some(16));
        assert_eq!(gib("?"), None);
    }
}
