//! The CPU time of the nodes' processes.

use std::{fs, time::Duration};

use crate::failure::Failure;

/// The kernel's `USER_HZ`, which is 100 on every Linux architecture on which these benchmarks run.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of the processes together (proc(5), fields 14 and 15).
pub(crate) fn used(pids: &[u32]) -> Result<Duration, Failure> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        ticks += fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>();
    }
    Ok(TICK * ticks)
}
