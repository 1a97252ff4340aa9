//! The pods of the service: what one of them can do, and how it comes and goes.

use std::{collections::VecDeque, fmt};

use serde_json::Value;

use crate::failure::Failure;

const SINGLE: &str = include_str!("../../../../docs/performance/single.json");

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Handlers at work at a time.
    pub(crate) handlers: f64,
    /// Seconds of a handler for a message, most of which it waits for a database.
    pub(crate) handling: f64,
    /// Measured: seconds of a core that client and framework need for a message.
    cpu: f64,
    /// Cores that it may use.
    cores: f64,
    /// Messages in its hand that the broker does not count as ready.
    pub(crate) prefetch: f64,
    /// Seconds from its creation until it consumes: it is scheduled, its image is there, it connects.
    pub(crate) start: u64,
    /// Seconds for which it goes on consuming after it is told to end (`preStop`).
    pub(crate) last: u64,
    /// Seconds of its drain, in which it takes nothing new.
    pub(crate) drain: u64,
}

impl Pod {
    /// With the measured CPU time of docs/performance/single.json.
    pub(crate) fn measured() -> Result<Self, Failure> {
        let single: Value = serde_json::from_str(SINGLE)?;
        let micros = single["contestants"]["fluffle"]["client_cpu_us_per_msg"].as_f64();
        let cpu = micros.ok_or("docs/performance/single.json has no CPU time for fluffle")? / 1e6;
        let (start, last, drain) = (20, 5, 1);
        Ok(Self { handlers: 10.0, handling: 0.04, cpu, cores: 0.25, prefetch: 64.0, start, last, drain })
    }

    /// Messages a second, if each takes `slowness` times as long as usual.
    pub(crate) fn rate(&self, slowness: f64) -> f64 {
        (self.handlers / (self.handling * slowness)).min(self.cores / self.cpu)
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "assumed: a pod has {} handlers of {:.0} ms, {} cores, a prefetch of {}; it consumes {} s after its \
             creation, and until {} s after its deletion\nmeasured: {:.1} us of CPU time for a message \
             (docs/performance/single.json), so {:.0} messages/s of a pod, by its {}",
            self.handlers,
            self.handling * 1e3,
            self.cores,
            self.prefetch,
            self.start,
            self.last,
            self.cpu * 1e6,
            self.rate(1.0),
            if self.handlers / self.handling < self.cores / self.cpu { "handlers" } else { "cores" },
        )
    }
}

/// All pods at one time.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// For each pod that starts, when it consumes.
    starting: VecDeque<u64>,
    pub(crate) consuming: u64,
    /// For each pod that was told to end, until when it consumes, and until when it exists.
    ending: VecDeque<(u64, u64)>,
}

impl Fleet {
    pub(crate) fn ready(consuming: u64) -> Self {
        Self { consuming, ..Self::default() }
    }

    /// The number that a Deployment has: without those that end.
    pub(crate) fn replicas(&self) -> u64 {
        self.consuming + self.starting.len() as u64
    }

    /// How many have been created and not gone yet.
    pub(crate) fn all(&self) -> u64 {
        self.replicas() + self.ending.len() as u64
    }

    /// How many consume.
    pub(crate) fn working(&self, now: u64) -> u64 {
        self.consuming + self.ending.iter().filter(|(until, _)| *until > now).count() as u64
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: u64) {
        while self.starting.front().is_some_and(|ready| *ready <= now) {
            self.starting.pop_front();
            self.consuming += 1;
        }
        while self.ending.front().is_some_and(|(_, gone)| *gone <= now) {
            self.ending.pop_front();
        }
    }

    /// Creates or deletes pods. Those that are not ready yet go first, as a ReplicaSet has it.
    pub(crate) fn scale(&mut self, replicas: u64, now: u64, pod: &Pod) {
        while self.replicas() < replicas {
            self.starting.push_back(now + pod.start);
        }
        while self.replicas() > replicas {
            if self.starting.pop_back().is_none() {
                self.consuming -= 1;
                let until = now + pod.last;
                self.ending.push_back((until, until + pod.drain));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_costs_before_it_works_and_after() {
        let pod = Pod::measured().unwrap();
        let mut fleet = Fleet::ready(1);
        fleet.scale(2, 100, &pod);
        assert_eq!((fleet.all(), fleet.working(100)), (2, 1));
        fleet.tick(119);
        assert_eq!(fleet.working(119), 1);
        fleet.tick(120);
        assert_eq!(fleet.working(120), 2);
        fleet.scale(1, 200, &pod);
        assert_eq!((fleet.replicas(), fleet.all(), fleet.working(204)), (1, 2, 2));
        fleet.tick(205);
        assert_eq!((fleet.all(), fleet.working(205)), (2, 1));
        fleet.tick(206);
        assert_eq!(fleet.all(), 1);
    }

    #[test]
    fn a_pod_of_slow_handlers_is_limited_by_them_and_one_of_fast_handlers_by_its_cores() {
        let mut pod = Pod::measured().unwrap();
        assert!((pod.rate(1.0) - 250.0).abs() < 1e-9 && (pod.rate(4.0) - 62.5).abs() < 1e-9);
        pod.handling = 1e-6;
        assert!((1_000.0..100_000.0).contains(&pod.rate(1.0)), "{}", pod.rate(1.0));
    }
}
