//! The channel of now, and the short way to it.
//!
//! When nothing stands before a message it is published on its sender's own thread, so that a lone one waits for no other. When
//! something does, it takes the mailbox, which the publisher's actor empties in bursts. Either way messages of one sender leave
//! in the order in which they were accepted: the short way is closed while the mailbox holds anything.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::Outbox;
use crate::{
    confirm::{Confirms, Verdict},
    publish::{entry::Entry, message::Prepared},
};

/// Where messages are published now; nowhere between two channels.
#[derive(Default)]
pub(crate) struct Direct {
    current: Mutex<Option<Current>>,
    /// Messages that took the mailbox and are not published.
    behind: AtomicUsize,
}

struct Current {
    confirms: Confirms,
    /// Senders may use it.
    open: bool,
}

impl Direct {
    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more takes the mailbox.
    pub(super) fn wait(&self) {
        self.behind.fetch_add(1, Ordering::AcqRel);
    }
}

impl Outbox {
    /// Publishes `entry` now if nothing stands before it.
    pub(super) fn publish_now(&self, entry: Entry) -> Result<(), Entry> {
        // Whoever is at it now is about to publish, or to hear of confirms: nobody waits for that here.
        let mut current = match self.direct.current.try_lock() {
            Ok(current) => current,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(entry),
        };
        match &mut *current {
            Some(Current { confirms, open: true })
                if confirms.len() < self.window && self.direct.behind.load(Ordering::Acquire) == 0 =>
            {
                for (sequence, message) in self.take([entry]) {
                    confirms.publish(sequence, message);
                }
                Ok(())
            }
            _ => Err(entry),
        }
    }

    /// From now on messages are published here, until what this gives is dropped. Senders may once it is
    /// [open](OnChannel::open).
    pub(crate) fn publish_on(self: &Arc<Self>, confirms: Confirms) -> OnChannel {
        *self.direct.current() = Some(Current { confirms, open: false });
        OnChannel { outbox: Arc::clone(self) }
    }
}

/// Messages that have been taken from the mailbox or the journal, and not published. Dropped, they are the next channel's.
pub(crate) struct Waiting {
    outbox: Arc<Outbox>,
    pub(crate) entries: Vec<Entry>,
}

impl Waiting {
    pub(crate) fn new(outbox: &Arc<Outbox>) -> Self {
        Self { outbox: Arc::clone(outbox), entries: Vec::new() }
    }

    fn went(&self, count: usize) {
        if self.outbox.journal.is_none() {
            self.outbox.direct.behind.fetch_sub(count, Ordering::AcqRel);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let count = self.entries.len();
        self.outbox.keep(self.entries.drain(..));
        self.went(count);
    }
}

/// The actor's end of a channel that messages are published on.
pub(crate) struct OnChannel {
    outbox: Arc<Outbox>,
}

impl OnChannel {
    /// Senders may use it, or may not.
    pub(crate) fn open(&self, open: bool) {
        if let Some(current) = &mut *self.outbox.direct.current() {
            current.open = open;
        }
    }

    /// How many more messages the window has room for.
    pub(crate) fn room(&self) -> usize {
        self.outbox.window.saturating_sub(self.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.outbox.direct.current().as_ref().map_or(0, |current| current.confirms.len())
    }

    /// Publishes what was left over, whatever the window.
    pub(crate) fn publish(&self, messages: impl IntoIterator<Item = (u64, Arc<Prepared>)>) {
        if let Some(current) = &mut *self.outbox.direct.current() {
            for (sequence, message) in messages {
                current.confirms.publish(sequence, message);
            }
        }
    }

    /// Publishes what came by the mailbox or the journal, for which there was room: until it is out no sender takes it.
    pub(crate) fn publish_waiting(&self, waiting: &mut Waiting) {
        let Some(current) = &mut *self.outbox.direct.current() else { return };
        let count = waiting.entries.len();
        for (sequence, message) in self.outbox.take(waiting.entries.drain(..)) {
            current.confirms.publish(sequence, message);
        }
        waiting.went(count);
    }

    /// Waits for verdicts and gives all there are. Cancellation safe.
    pub(crate) fn settled(&self) -> impl Future<Output = Vec<(u64, Verdict)>> {
        poll_fn(|cx| match &mut *self.outbox.direct.current() {
            Some(current) => current.confirms.poll_settled(cx),
            None => std::task::Poll::Pending,
        })
    }
}

impl Drop for OnChannel {
    fn drop(&mut self) {
        // Without the lock: there may be many.
        let current = self.outbox.direct.current().take();
        drop(current);
    }
}
