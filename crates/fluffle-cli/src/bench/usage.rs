//! The CPU time and memory that this process has used so far, from Linux's /proc (proc(5)).

use std::{fs, time::Duration};

use serde::Serialize;

/// The CPU time that this process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of all threads, user and system.
    pub(crate) cpu: Duration,
    /// The part of it that the embedded broker used, if there is one.
    pub(crate) broker: Duration,
}

/// Clock ticks per second in /proc. The kernel's interface fixes this value.
const TICKS: u64 = 100;

impl Usage {
    /// Reads the current usage. `None` if there is no /proc.
    pub(crate) fn now() -> Option<Self> {
        let cpu = ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
        let tasks = fs::read_dir("/proc/self/task").ok()?.flatten();
        let brokers = tasks.filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            stat.contains("(fluffle-broker)").then(|| ticks(&stat)).flatten()
        });
        Some(Self { cpu, broker: brokers.sum() })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), broker: self.broker.saturating_sub(earlier.broker) }
    }
}

/// The sum of utime and stime, fields 14 and 15. They are counted from the end of the name, which may contain any
/// character.
fn ticks(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((next()? + next()?) * 1000 / TICKS))
}

/// The peak resident memory of this process, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

/// The usage for the report. Keys are stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Process {
    /// CPU seconds during the measurement, without the embedded broker.
    pub(crate) cpu_s: f64,
    /// CPU microseconds for each handled (or, without consumers, confirmed) message.
    pub(crate) cpu_us_per_message: f64,
    /// CPU seconds of the embedded broker.
    pub(crate) embedded_broker_cpu_s: f64,
    /// Peak resident memory of the whole run, in bytes, including the embedded broker.
    pub(crate) peak_memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0";
        assert_eq!(ticks(stat), Some(Duration::from_secs(3)));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(peak_memory().unwrap() > 100_000);
        let before = Usage::now().unwrap();
        let mut sum = 0_u64;
        while Usage::now().unwrap().since(before).cpu.is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
