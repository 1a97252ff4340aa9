//! When messages are due. In an open loop this is fixed beforehand. If the generator is delayed, it then sends all
//! overdue messages as fast as it can, and each counts its wait. This avoids coordinated omission, as in wrk2.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::bench::args::Rate;

/// The schedule of an open loop: messages at `rate`, from the start on, with the producers taking turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: Rate,
    producers: u64,
}

impl Schedule {
    pub(crate) fn new(rate: Rate, producers: usize) -> Self {
        Self { rate, producers: producers as u64 }
    }

    /// When a producer's `n`th message is due, counted from the start. Exact, so that even a rate with thousandths does
    /// not drift.
    pub(crate) fn due(&self, producer: usize, n: u64) -> Duration {
        self.slot(n.saturating_mul(self.producers).saturating_add(producer as u64))
    }

    /// When the `n`th message of all producers together is due.
    fn slot(&self, n: u64) -> Duration {
        // The rate is in thousandths per second, so a second is 10⁹ ns × 1000.
        let nanos = u128::from(n) * 1_000_000_000_000 / u128::from(self.rate.0.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many of a producer's messages are due before `elapsed`.
    pub(crate) fn count(&self, producer: usize, elapsed: Duration) -> u64 {
        let slots = (elapsed.as_nanos() * u128::from(self.rate.0)).div_ceil(1_000_000_000_000);
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        slots.saturating_sub(producer as u64).div_ceil(self.producers)
    }

    /// The first slot that is due after `elapsed`.
    fn next(&self, elapsed: Duration) -> u64 {
        let slots = elapsed.as_nanos() * u128::from(self.rate.0) / 1_000_000_000_000;
        u64::try_from(slots).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Wakes producers when their messages are due. It has a thread of its own, because tokio's timers have a resolution of
/// one millisecond and the latencies here are shorter.
pub(crate) struct Pacer {
    wakes: Vec<Arc<Notify>>,
    stop: Arc<AtomicBool>,
}

/// The shortest sleep. At more than some thousand messages per second, several are due at each wake.
const SHORTEST: Duration = Duration::from_micros(100);

/// The longest sleep, so that the thread notices soon that it must stop.
const LONGEST: Duration = Duration::from_millis(50);

impl Pacer {
    /// Starts the thread. The first message is due at `start`.
    pub(crate) fn start(schedule: Schedule, start: Instant) -> std::io::Result<Self> {
        let wakes: Vec<Arc<Notify>> = (0..schedule.producers).map(|_| Arc::default()).collect();
        let pacer = Self { wakes: wakes.clone(), stop: Arc::default() };
        let stop = Arc::clone(&pacer.stop);
        thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            let mut slot = 0;
            while !stop.load(Ordering::Relaxed) {
                let wait = (start + schedule.slot(slot)).saturating_duration_since(Instant::now());
                if wait > LONGEST {
                    thread::sleep(LONGEST);
                    continue;
                }
                thread::sleep(wait.max(SHORTEST));
                let next = schedule.next(start.elapsed());
                // Each producer is woken once, however many of its messages are due.
                let due = next.saturating_sub(slot).min(schedule.producers);
                for producer in (slot..slot + due).map(|slot| slot % schedule.producers) {
                    wakes[producer as usize].notify_one();
                }
                slot = next.max(slot);
            }
            wakes.iter().for_each(|wake| wake.notify_one());
        })?;
        Ok(pacer)
    }

    /// The `Notify` that wakes this producer.
    pub(crate) fn wake(&self, producer: usize) -> Arc<Notify> {
        Arc::clone(&self.wakes[producer])
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_take_turns_and_the_whole_keeps_its_rate() {
        let schedule = Schedule::new(Rate(2_000_000), 4);
        let mut all: Vec<Duration> = (0..4).flat_map(|p| (0..500).map(move |n| schedule.due(p, n))).collect();
        all.sort_unstable();
        let evenly: Vec<Duration> = (0..2000).map(|n| Duration::from_micros(500 * n)).collect();
        assert_eq!(all, evenly);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = Schedule::new(Rate(3_000), 1);
        assert_eq!(schedule.due(0, 3 * 1_000_000), Duration::from_secs(1_000_000));
        assert_eq!(schedule.due(0, u64::MAX), Duration::from_nanos(u64::MAX), "the end of time");
    }

    /// The schedule does not depend on what was sent: after a stall of two seconds, a thousand messages are overdue,
    /// the oldest of them by two seconds.
    #[test]
    fn a_stalled_producer_owes_what_was_due_meanwhile() {
        let schedule = Schedule::new(Rate(500_000), 1);
        let stalled_at = Duration::from_secs(1);
        let back_at = Duration::from_secs(3);
        let overdue: Vec<Duration> = (0..)
            .map(|n| schedule.due(0, n))
            .skip_while(|due| *due < stalled_at)
            .take_while(|due| *due < back_at)
            .collect();
        assert_eq!(overdue.len(), 1000);
        assert_eq!(back_at - overdue[0], Duration::from_secs(2));
    }

    #[test]
    fn what_is_due_before_a_time_is_counted_to_the_last_message() {
        let schedule = Schedule::new(Rate(7_000), 3);
        for millis in [0, 1, 142, 143, 1000, 12_345] {
            let end = Duration::from_millis(millis);
            for producer in 0..3 {
                let due = (0..).take_while(|n| schedule.due(producer, *n) < end).count() as u64;
                assert_eq!(schedule.count(producer, end), due, "{producer} before {end:?}");
            }
        }
    }

    #[test]
    fn the_next_slot_is_the_first_one_after_a_time() {
        let schedule = Schedule::new(Rate(1_000_000), 2);
        assert_eq!(schedule.next(Duration::ZERO), 1);
        assert_eq!(schedule.next(Duration::from_micros(2_500)), 3);
        assert_eq!(schedule.slot(3), Duration::from_millis(3));
    }

    #[tokio::test]
    async fn a_pacer_wakes_each_producer_when_its_message_is_due() {
        let schedule = Schedule::new(Rate(200_000), 2);
        let start = Instant::now();
        let pacer = Pacer::start(schedule, start).unwrap();
        for n in 0..10 {
            for producer in 0..2 {
                let due = start + schedule.due(producer, n);
                while Instant::now() < due {
                    pacer.wake(producer).notified().await;
                }
            }
        }
        assert!(start.elapsed() >= schedule.due(1, 9));
    }
}
