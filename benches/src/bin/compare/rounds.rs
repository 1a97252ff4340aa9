//! Rounds: in each, every contestant does the same work on its own queue. The contestants take turns in going first.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use crate::{
    body::Bodies,
    contestant::Contestant,
    contestants,
    course::Course,
    failure::Failure,
    figures::Figures,
    node::Node,
    scenario::{Scenario, Terms},
};

/// The work to do.
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) rounds: usize,
    /// The content of messages in scenarios about records.
    pub(crate) records: Bodies,
    /// The time for all rounds of all contestants, without warming up.
    pub(crate) time: Duration,
}

/// One contestant's figures, one for each round.
pub(crate) type Results = Vec<(Contestant, Vec<Figures>)>;

impl Plan {
    /// Runs an uncounted round, to warm up and to find out how much work fits into the time, then the counted ones.
    /// Calls `watch` with every result and the number of its round.
    pub(crate) fn run(&self, node: &mut Node, watch: impl Fn(usize, Contestant, &Figures)) -> Result<Results, Failure> {
        let mut rates = Vec::new();
        for &contestant in &self.contestants {
            let figures = self.round(node, contestant, self.scenario.first_round_bytes())?;
            watch(0, contestant, &figures);
            rates.push(figures.mb_per_s * 1e6);
        }
        let bytes = bytes(self.time / self.rounds as u32, &rates);
        let mut results: Results = self.contestants.iter().map(|&contestant| (contestant, Vec::new())).collect();
        let count = results.len();
        for round in 1..=self.rounds {
            for turn in 0..count {
                let (contestant, all) = &mut results[(round + turn) % count];
                let figures = self.round(node, *contestant, bytes)?;
                watch(round, *contestant, &figures);
                all.push(figures);
            }
        }
        Ok(results)
    }

    fn round(&self, node: &mut Node, contestant: Contestant, bytes: f64) -> Result<Figures, Failure> {
        let terms = self.scenario.terms_for(contestant);
        let bodies = if terms.records { self.records.clone() } else { Bodies::of_size(terms.payload_bytes) };
        let patience = Duration::from_secs(60) + 5 * self.time / self.rounds as u32;
        round(node, contestant, terms, (bodies, bytes), patience)
            .map_err(|error| format!("{}, {}: {error}", self.scenario.name(), contestant.name()).into())
    }
}

fn round(
    node: &mut Node,
    contestant: Contestant,
    terms: Terms,
    (bodies, bytes): (Bodies, f64),
    patience: Duration,
) -> Result<Figures, Failure> {
    let queue = node.fresh_queue(&terms)?;
    let messages = (bytes / bodies.bytes() as f64) as u64;
    let course = Arc::new(Course::new(node, queue.clone(), terms, bodies, messages.max(100)));
    let running = Arc::clone(&course);
    in_time(patience, move || contestants::run(contestant, &running))?;
    let figures = course.verdict()?;
    node.remove_queue(&queue, &terms)?;
    Ok(figures)
}

/// Does `work` on a thread of its own, and gives up waiting for it after `patience`.
pub(crate) fn in_time(
    patience: Duration,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    match told.recv_timeout(patience) {
        Ok(ended) => ended,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("not done within {patience:?}: it hangs").into()),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("it panicked".into()),
    }
}

/// How many bytes a round must have so that contestants with these rates take that time together.
fn bytes(time: Duration, rates: &[f64]) -> f64 {
    let seconds_each: f64 = rates.iter().map(|rate| 1.0 / rate).sum();
    time.as_secs_f64() / seconds_each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_the_same_work_and_all_of_it_fits_into_the_time() {
        // 8,000 bytes take 0.8 s and 0.2 s.
        assert!((bytes(Duration::from_secs(1), &[10_000.0, 40_000.0]) - 8000.0).abs() < 1e-6);
    }
}
