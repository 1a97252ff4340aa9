//! How late a thread of the service is: measured by a probe that is sent to it and stamped when it runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use actix_rt::ArbiterHandle;

/// Measures one arbiter. At most one probe is on its way, so a thread that answers none collects none.
pub(super) struct Probe {
    arbiter: ArbiterHandle,
    times: Arc<Mutex<Times>>,
}

#[derive(Default)]
struct Times {
    /// When the probe that has not run yet was sent.
    sent: Option<Instant>,
    /// How long the last probe that ran had waited.
    last: Duration,
}

impl Probe {
    pub(super) fn new(arbiter: ArbiterHandle) -> Self {
        Self { arbiter, times: Arc::default() }
    }

    /// How late the arbiter is. Sends the next probe, unless one is on its way. Waits for nothing.
    pub(super) fn lag(&self) -> Duration {
        let last = {
            let mut times = lock(&self.times);
            if let Some(sent) = times.sent {
                return sent.elapsed();
            }
            times.sent = Some(Instant::now());
            times.last
        };
        let answer = Answer(Arc::clone(&self.times));
        // Dropped at once if the thread has ended.
        self.arbiter.spawn_fn(move || drop(answer));
        last
    }
}

/// The answer to a probe, given when the probe has run, or when it never will because its thread has ended.
struct Answer(Arc<Mutex<Times>>);

impl Drop for Answer {
    fn drop(&mut self) {
        let mut times = lock(&self.0);
        times.last = times.sent.take().map(|sent| sent.elapsed()).unwrap_or_default();
    }
}

/// Held for a few instructions by either side, so neither waits for a thread that is blocked.
fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use actix_rt::{Arbiter, System};

    use super::*;

    /// Asks until `is_it`, and gives what it was.
    fn until(probe: &Probe, is_it: impl Fn(Duration) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let lag = probe.lag();
            if is_it(lag) {
                return lag;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{lag:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_blocked_thread_is_later_and_later_until_it_answers_the_one_probe() {
        let _system = System::new();
        let arbiter = Arbiter::new();
        let probe = Probe::new(arbiter.handle());
        let (release, released) = mpsc::channel::<()>();
        let (ran, runs) = mpsc::channel();
        arbiter.spawn_fn(move || {
            ran.send(()).unwrap();
            released.recv().unwrap();
        });
        runs.recv().unwrap();
        let later = until(&probe, |lag| lag > Duration::from_millis(20));
        assert!(until(&probe, |lag| lag > later) > later, "still the same probe");
        release.send(()).unwrap();
        // The probe that waited says how long, once; the next ones run at once.
        until(&probe, |lag| lag >= later);
        until(&probe, |lag| lag < Duration::from_millis(20));
        // The last call has sent another probe. A thread that ends with one on its way would be late for ever.
        let begun = Instant::now();
        while lock(&probe.times).sent.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the probe is not answered");
            thread::sleep(Duration::from_millis(1));
        }
        arbiter.stop();
        arbiter.join().unwrap();
        probe.lag();
        assert!(lock(&probe.times).sent.is_none(), "an ended thread is sent nothing");
    }
}
