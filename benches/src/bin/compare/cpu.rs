//! The CPU time of this process and of the broker's processes, from `/proc/<pid>/stat`.

use std::{fs, time::Duration};

/// The kernel's `USER_HZ`, which is 100 on every Linux architecture on which these benchmarks run.
const TICK: Duration = Duration::from_millis(10);

/// The processes whose time is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes {
    broker: Option<u32>,
}

/// The CPU time so far, without the broker's if it runs elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) client: Duration,
    pub(crate) broker: Option<Duration>,
}

impl Processes {
    /// This process, and the broker's if it is known and on this machine.
    pub(crate) fn new(broker: Option<u32>) -> Self {
        Self { broker }
    }

    pub(crate) fn usage(&self) -> Usage {
        let time = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| used(&stat));
        let client = time(std::process::id()).unwrap_or_default();
        // The broker's children are Erlang's helpers. The time of an ended child is included in its parent's.
        let broker = self.broker.and_then(|pid| {
            let helpers: Duration = children(pid).into_iter().filter_map(time).sum();
            Some(time(pid)? + helpers)
        });
        Usage { client, broker }
    }
}

impl Usage {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            client: self.client.saturating_sub(earlier.client),
            broker: self.broker.zip(earlier.broker).map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// `utime`, `stime`, `cutime` and `cstime` of a `stat` file (proc(5)).
fn used(stat: &str) -> Option<Duration> {
    // The second field, the program's name in parentheses, may contain any characters.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u32>().ok());
    let ticks = (0..4).map(|_| times.next().flatten()).sum::<Option<u32>>()?;
    Some(TICK * ticks)
}

/// The child processes of this one.
fn children(pid: u32) -> Vec<u32> {
    let read = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let direct: Vec<u32> = read.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    let indirect: Vec<u32> = direct.iter().flat_map(|&child| children(child)).collect();
    direct.into_iter().chain(indirect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_fields_14_to_17() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4 100 200 0 0 150 50 10 5 20 0 9 0 77 1 2";
        assert_eq!(used(stat), Some(Duration::from_millis(2150)));
        assert_eq!(used("7 (x) S 1"), None);
        assert_eq!(used("nothing"), None);
    }

    #[test]
    fn a_broker_elsewhere_has_no_time() {
        let usage = Processes::new(None).usage();
        assert_eq!(usage.since(&Usage::default()).broker, None);
    }
}
