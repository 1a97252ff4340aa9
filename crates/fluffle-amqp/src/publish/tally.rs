//! What a publisher has accepted and not settled, its totals, and its listeners.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{sync::Notify, time::Instant};

use crate::publish::publish_events::PublishEvents;

/// The tally of one publisher, in messages. Messages in open batches are not in it yet.
#[derive(Default)]
pub(crate) struct Tally {
    /// Messages accepted and not settled.
    outstanding: AtomicUsize,
    /// Told when `outstanding` becomes 0.
    pub(crate) emptied: Notify,
    pub(crate) events: PublishEvents,
}

impl Tally {
    /// `items` messages are accepted. Called before anything can settle them.
    pub(crate) fn accept(&self, items: usize) {
        self.events.accepted(items);
        self.outstanding.fetch_add(items, Ordering::AcqRel);
    }

    /// The items of a batch that was `opened` then are accepted.
    pub(crate) fn accept_batch(&self, items: usize, opened: Instant) {
        self.events.accepted_batch(items, opened);
        self.outstanding.fetch_add(items, Ordering::AcqRel);
    }

    /// `items` messages are outstanding no longer, and listeners have been told so.
    pub(crate) fn cross_off(&self, items: usize) {
        if self.outstanding.fetch_sub(items, Ordering::AcqRel) == items {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }
}
