//! Numbers that are published one after the other and handled, and what became of them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::prelude::*;

use crate::support::*;

/// Longer than any election, restart or partition here takes.
pub(crate) const LONG: Duration = Duration::from_secs(90);

const RATE: Duration = Duration::from_millis(4);

/// What the handlers saw: each number, and when.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<Vec<(usize, Instant)>>>);

/// Handles the numbers of a [`Load`].
pub(crate) struct Counting(pub(crate) Handled);

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counting {
    type Result = Result<(), Failure>;

    fn handle(&mut self, number: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.0.lock().unwrap().push((number.parse().unwrap(), Instant::now()));
        Ok(())
    }
}

impl Handled {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until the last of `count` numbers is handled.
    pub(crate) async fn all_of(&self, count: usize) {
        let last = || self.0.lock().unwrap().iter().any(|(number, _)| number + 1 == count);
        until("all is handled", || count == 0 || last()).await;
    }

    /// The longest time between two messages.
    pub(crate) fn longest_pause(&self) -> Duration {
        let seen = self.0.lock().unwrap();
        seen.windows(2).map(|two| two[1].1 - two[0].1).max().unwrap_or_default()
    }

    /// Each number is there. Gives how many came again.
    pub(crate) fn complete(&self, count: usize) -> usize {
        let seen: Vec<usize> = self.0.lock().unwrap().iter().map(|(number, _)| *number).collect();
        let mut missing: BTreeSet<usize> = (0..count).collect();
        for number in &seen {
            missing.remove(number);
        }
        assert!(missing.is_empty(), "lost: {missing:?}");
        seen.len() - count
    }

    /// Each number is there, and came first after the one before it. Gives how many came again.
    pub(crate) fn complete_and_in_order(&self, count: usize) -> usize {
        let seen: Vec<usize> = self.0.lock().unwrap().iter().map(|(number, _)| *number).collect();
        let mut next = 0;
        for number in &seen {
            assert!(*number <= next, "{number} came before {next}");
            next += usize::from(*number == next);
        }
        assert_eq!(next, count, "the rest is lost");
        seen.len() - count
    }
}

/// Publishes numbers until it is told to stop. Every publish must succeed.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
    publishing: tokio::task::JoinHandle<()>,
}

impl Load {
    pub(crate) fn begin(out: Publisher<String>) -> Self {
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&published));
        let publishing = actix::spawn(async move {
            let mut pace = tokio::time::interval(RATE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !told.load(Ordering::Relaxed) {
                pace.tick().await;
                let number = counted.load(Ordering::Relaxed);
                let published = out.publish(number.to_string()).await;
                published.unwrap_or_else(|error| panic!("message {number}: {error}"));
                counted.store(number + 1, Ordering::Relaxed);
            }
        });
        Self { stop, published, publishing }
    }

    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    /// Waits until so many more numbers are published.
    pub(crate) async fn more(&self, numbers: usize) {
        let wanted = self.published() + numbers;
        until("more is published", || self.published() >= wanted || self.publishing.is_finished()).await;
        assert!(!self.publishing.is_finished(), "publishing has ended");
    }

    /// Stops, and gives how many numbers were published.
    pub(crate) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(LONG, self.publishing)
            .await
            .expect("the last one is confirmed")
            .expect("no publish failed");
        self.published.load(Ordering::Relaxed)
    }
}

/// Calls `act`, which blocks, on another thread, and waits for it.
pub(crate) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(2 * LONG, tokio::task::spawn_blocking(act)).await.expect("in time").unwrap()
}
