//! The current channel of a publisher, and the short way to it.
//!
//! If few messages are on the wire, a sender publishes its message on its own thread, so that a lone message waits for
//! no other thread. If more are, the message takes the mailbox, which the actor empties in bursts, because a burst
//! costs client and broker less than the same messages one by one.
//!
//! Either way the messages of one sender leave in the order in which they were accepted, because the short way is
//! closed while any message has taken the mailbox and is not published.

use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{AtomicUsize, Ordering},
};

use crate::publish::{
    confirm::ConfirmTracker,
    entry::Entry,
    send_queue::{books::Books, unsettled::Unsettled},
};

/// From this many messages on the wire without a confirm, the next ones take the mailbox.
const FEW: usize = 4;

/// The channel that messages are published on now; none between two channels.
#[derive(Default)]
pub(super) struct Direct {
    current: Mutex<Option<Current>>,
    /// Messages that took the mailbox and are not published.
    behind: AtomicUsize,
}

pub(super) struct Current {
    pub(super) confirms: ConfirmTracker,
    /// Whether senders may publish on it.
    pub(super) open: bool,
    /// Whether the actor looks now and then for confirms that do not come. It does not while nothing is on the wire.
    pub(super) watched: bool,
}

impl Direct {
    pub(super) fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another message takes the mailbox.
    pub(super) fn wait(&self) {
        self.behind.fetch_add(1, Ordering::AcqRel);
    }

    /// `count` messages that took the mailbox are published, or are left to the next channel.
    pub(super) fn went(&self, count: usize) {
        self.behind.fetch_sub(count, Ordering::AcqRel);
    }

    #[cfg(test)]
    pub(super) fn behind(&self) -> usize {
        self.behind.load(Ordering::Acquire)
    }

    /// Publishes `entry` now, if no message waits before it and few are on the wire; else gives it back. Waits for
    /// nothing.
    pub(super) fn publish_now(
        &self,
        entry: Entry,
        window: usize,
        unsettled: &Unsettled,
        books: &Books,
    ) -> Result<(), Entry> {
        // If another thread holds the lock, it is publishing or taking verdicts: the entry takes the mailbox instead.
        let mut current = match self.current.try_lock() {
            Ok(current) => current,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(entry),
        };
        match &mut *current {
            Some(Current { confirms, open: true, watched })
                if self.behind.load(Ordering::Acquire) == 0
                    && confirms.len() + unsettled.waiting() < window.min(FEW) =>
            {
                for (sequence, message) in unsettled.take([entry], books) {
                    confirms.publish(sequence, message);
                }
                if !*watched {
                    // The actor begins to look. Without this, it would not be told of a message that is never written.
                    confirms.wake();
                }
                Ok(())
            }
            _ => Err(entry),
        }
    }
}
