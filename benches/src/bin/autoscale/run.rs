//! One week of one service.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{
    hpa::{Hpa, SYNC},
    pods::{Fleet, Pod},
    scaler::{Limits, Look, Scaler},
};

/// Seconds between two scrapes of Prometheus, and of the window of the query's rates.
const SCRAPE: u64 = 15;
const WINDOW: usize = 120;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) pod_hours: f64,
    /// Ages of messages when they are handled, in seconds.
    pub(crate) p50_age_s: u64,
    pub(crate) p99_age_s: u64,
    pub(crate) oldest_s: u64,
    /// The share of messages that were older than a minute.
    pub(crate) over_a_minute: f64,
    pub(crate) fewest_pods: u64,
    pub(crate) most_pods: u64,
    /// How often the number of replicas was changed.
    pub(crate) changes: u64,
}

/// The messages that wait, oldest first: when they came, and how many.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u64, f64)>,
    length: f64,
}

impl Queue {
    fn push(&mut self, now: u64, messages: u64) {
        if messages > 0 {
            self.waiting.push_back((now, messages as f64));
            self.length += messages as f64;
        }
    }

    /// Takes up to this many, and tells how many of which age.
    fn take(&mut self, now: u64, most: f64, mut tell: impl FnMut(u64, f64)) -> f64 {
        let mut left = most.min(self.length);
        let taken = left;
        while left > 1e-9 {
            let Some((came, messages)) = self.waiting.front_mut() else { break };
            let some = messages.min(left);
            tell(now - *came, some);
            *messages -= some;
            left -= some;
            if *messages <= 1e-9 {
                self.waiting.pop_front();
            }
        }
        self.length = (self.length - taken).max(0.0);
        taken
    }
}

/// How many messages were handled at each age.
#[derive(Debug, Default)]
struct Ages {
    counts: Vec<f64>,
    total: f64,
}

impl Ages {
    fn add(&mut self, age: u64, messages: f64) {
        let age = age as usize;
        if self.counts.len() <= age {
            self.counts.resize(age + 1, 0.0);
        }
        self.counts[age] += messages;
        self.total += messages;
    }

    fn quantile(&self, share: f64) -> u64 {
        let mut below = 0.0;
        let reached = self.counts.iter().position(|count| {
            below += count;
            below >= share * self.total
        });
        reached.unwrap_or_default() as u64
    }

    fn oldest(&self) -> u64 {
        self.counts.iter().rposition(|count| *count > 0.0).unwrap_or_default() as u64
    }

    fn over(&self, age: usize) -> f64 {
        self.counts.iter().skip(age + 1).fold(0.0, |sum, count| sum + count) / self.total.max(1.0)
    }
}

/// The last two minutes, as Prometheus has them.
#[derive(Debug, Default)]
struct Metrics {
    /// Messages handled and handlers busy, of each second.
    handled: VecDeque<(f64, f64)>,
    ready: f64,
}

impl Metrics {
    fn record(&mut self, handled: f64, busy: f64) {
        self.handled.push_back((handled, busy));
        if self.handled.len() > WINDOW {
            self.handled.pop_front();
        }
    }

    fn look(&self, pod: &Pod, scraped_ready: f64) -> Look {
        let (handled, busy) =
            self.handled.iter().fold((0.0, 0.0), |(handled, busy), one| (handled + one.0, busy + one.1));
        // `or vector(0.05)` in the query.
        let handling = if handled > 0.0 { busy / handled } else { 0.05 };
        let seconds = self.handled.len().max(1) as f64;
        Look { ready: scraped_ready, busy: busy / seconds, handling, handlers: pod.handlers }
    }
}

/// Lets a week pass: `arrivals` for each second, `slowness` says how many times longer a message takes in a second.
pub(crate) fn week(
    arrivals: &[u64],
    slowness: &dyn Fn(usize) -> f64,
    pod: &Pod,
    scaler: &Scaler,
    limits: Limits,
) -> Outcome {
    let first = if let Scaler::Fixed(pods) = scaler { *pods } else { limits.least };
    let (mut fleet, mut queue, mut ages) = (Fleet::ready(first), Queue::default(), Ages::default());
    let (mut hpa, mut metrics, mut active) = (Hpa::default(), Metrics::default(), 0);
    let (mut pod_seconds, mut changes, mut fewest, mut most) = (0, 0, u64::MAX, 0);
    for (second, &messages) in arrivals.iter().enumerate() {
        let now = second as u64;
        fleet.tick(now);
        queue.push(now, messages);
        let (working, slow) = (fleet.working(now) as f64, slowness(second));
        let handled = queue.take(now, working * pod.rate(slow), |age, messages| ages.add(age, messages));
        metrics.record(handled, handled * pod.handling * slow);
        // What pods have prefetched is not ready.
        let ready = (queue.length - working * pod.prefetch).max(0.0);
        if now.is_multiple_of(SCRAPE) {
            metrics.ready = ready;
        }
        active = if ready > 0.0 || messages > 0 { now } else { active };
        let seen = if matches!(scaler, Scaler::DrainTime(_)) { metrics.ready } else { ready };
        let wanted = scaler.wanted(metrics.look(pod, seen));
        let replicas = decide(now, &fleet, &mut hpa, wanted, (ready, active), scaler, limits);
        changes += u64::from(replicas != fleet.replicas());
        fleet.scale(replicas, now, pod);
        pod_seconds += fleet.all();
        (fewest, most) = (fewest.min(fleet.replicas()), most.max(fleet.replicas()));
    }
    // What is left is as old as it is.
    let end = arrivals.len() as u64;
    queue.take(end, f64::INFINITY, |age, messages| ages.add(age, messages));
    Outcome {
        pod_hours: pod_seconds as f64 / 3600.0,
        p50_age_s: ages.quantile(0.5),
        p99_age_s: ages.quantile(0.99),
        oldest_s: ages.oldest(),
        over_a_minute: ages.over(60),
        fewest_pods: fewest,
        most_pods: most,
        changes,
    }
}

/// The replicas after this second. `activity`: what is ready now, and when something was last.
fn decide(
    now: u64,
    fleet: &Fleet,
    hpa: &mut Hpa,
    wanted: f64,
    activity: (f64, u64),
    scaler: &Scaler,
    limits: Limits,
) -> u64 {
    let (current, (ready, active)) = (fleet.replicas(), activity);
    if matches!(scaler, Scaler::Fixed(_)) {
        return current;
    }
    if current == 0 {
        return u64::from(now.is_multiple_of(limits.polling) && ready > 0.0);
    }
    if limits.least == 0 && current == 1 && now - active >= limits.cooldown {
        return 0;
    }
    if now.is_multiple_of(SYNC) { hpa.replicas(now, current, wanted, limits.least, limits.most) } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::Workload;

    const HOUR: usize = 3600;

    fn hour(per_second: u64, scaler: Scaler) -> Outcome {
        let pod = Pod::measured().unwrap();
        week(&[per_second; HOUR], &|_| 1.0, &pod, &scaler, Limits::default())
    }

    #[test]
    fn enough_pods_let_no_message_wait_and_cost_what_they_are() {
        let outcome = hour(400, Scaler::Fixed(2));
        assert_eq!((outcome.oldest_s, outcome.changes), (0, 0));
        assert!((outcome.pod_hours - 2.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_pods_let_messages_wait_longer_and_longer() {
        // 100 of 600 each second are left over: the last one of the hour waits 720 s.
        let outcome = hour(600, Scaler::Fixed(2));
        assert!((590..=610).contains(&outcome.oldest_s), "{outcome:?}");
    }

    /// 1,200 messages a second need 4.8 pods, and 6 if these are busy at 80 %.
    #[test]
    fn the_drain_time_finds_the_pods_that_a_load_needs_and_stays_there() {
        let outcome = hour(1200, Scaler::DrainTime(30));
        assert!((6..=8).contains(&outcome.most_pods) && outcome.changes <= 6, "{outcome:?}");
    }

    /// While pods keep up, the queue is empty and wants the fewest pods; with these it grows and wants all.
    #[test]
    fn the_queue_length_goes_back_and_forth_under_an_even_load() {
        let outcome = hour(1200, Scaler::QueueLength(300));
        assert!(outcome.most_pods >= 10 && outcome.changes >= 20, "{outcome:?}");
    }

    #[test]
    fn without_messages_the_last_pod_goes_after_the_cooldown_and_one_comes_with_the_first_message() {
        let pod = Pod::measured().unwrap();
        let mut arrivals = vec![0; HOUR];
        arrivals[0] = 1;
        arrivals[1800] = 1;
        let limits = Limits { least: 0, ..Limits::default() };
        let outcome = week(&arrivals, &|_| 1.0, &pod, &Scaler::QueueLength(300), limits);
        assert_eq!((outcome.fewest_pods, outcome.most_pods), (0, 1));
        assert!(outcome.oldest_s >= pod.start && outcome.oldest_s <= pod.start + limits.polling, "{outcome:?}");
        assert!(outcome.pod_hours < 0.25, "{outcome:?}");
    }

    #[test]
    fn the_same_week_has_the_same_outcome() {
        let (pod, arrivals) = (Pod::measured().unwrap(), Workload::Earthquakes.arrivals(1).unwrap());
        let day = &arrivals[..24 * HOUR];
        let run = || week(day, &|_| 1.0, &pod, &Scaler::DrainTime(30), Limits::default());
        assert_eq!(run(), run());
    }
}
