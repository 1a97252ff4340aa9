//! An open loop: messages fall due at fixed times, whatever happens to the earlier ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// A clock on its own thread, because an asynchronous timer would round to milliseconds.
pub(crate) struct Pace {
    clock: Arc<Clock>,
    taken: u64,
}

#[derive(Default)]
struct Clock {
    due: AtomicU64,
    stopped: AtomicBool,
    ticked: Notify,
}

impl Pace {
    /// The first message is due at `began`, the others follow `interval` apart.
    pub(crate) fn start(began: Instant, interval: Duration, messages: u64) -> Self {
        let clock = Arc::new(Clock::default());
        let ticking = Arc::clone(&clock);
        thread::spawn(move || ticking.run(began, interval, messages));
        Self { clock, taken: 0 }
    }

    /// Waits until a message is due, and takes those that are due, at most `most`. Cancellation safe.
    pub(crate) async fn due(&mut self, most: u64) -> u64 {
        loop {
            let waiting = self.clock.due.load(Ordering::Acquire) - self.taken;
            if waiting > 0 {
                let count = waiting.min(most);
                self.taken += count;
                return count;
            }
            self.clock.ticked.notified().await;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.clock.stopped.store(true, Ordering::Relaxed);
    }
}

impl Clock {
    fn run(&self, began: Instant, interval: Duration, messages: u64) {
        let mut next = began;
        for _ in 0..messages {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.due.fetch_add(1, Ordering::Release);
            self.ticked.notify_one();
            next += interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_due_before_its_time_and_everything_once() {
        let (began, interval) = (Instant::now(), Duration::from_millis(1));
        let mut pace = Pace::start(began, interval, 20);
        let mut taken = 0;
        while taken < 20 {
            taken += u32::try_from(pace.due(7).await).unwrap();
            assert!(began.elapsed() >= interval * (taken - 1), "{taken}");
        }
        assert_eq!(taken, 20);
    }
}
