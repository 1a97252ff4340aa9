//! How many messages of a publisher are unsettled, its totals, and what a settled entry does to both.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

use crate::publish::{
    entry::Entry,
    error::PublishErrorKind,
    journal::{Custody, Ledger},
    name::PublisherName,
    outcome::{OutcomeSender, SendOutcome},
    stats::{PublisherCounters, PublisherStats},
    travel::NotSent,
};

/// The books of one publisher. Messages in open batches are not on them yet.
pub(super) struct Books {
    name: Arc<PublisherName>,
    journal: Option<Arc<Ledger>>,
    /// Messages accepted and not settled. Stays 0 if there is a journal, which counts its own.
    outstanding: AtomicUsize,
    /// Told when `outstanding` becomes 0.
    emptied: Notify,
    counters: PublisherCounters,
}

impl Books {
    pub(super) fn new(name: Arc<PublisherName>, journal: Option<Arc<Ledger>>) -> Self {
        Self {
            name,
            journal,
            outstanding: AtomicUsize::new(0),
            emptied: Notify::new(),
            counters: PublisherCounters::default(),
        }
    }

    /// `items` messages are accepted: they are outstanding until [`settle`](Self::settle) or
    /// [`cross_off`](Self::cross_off).
    pub(super) fn accept(&self, items: usize) {
        self.counters.accepted.fetch_add(items as u64, Ordering::Relaxed);
        if self.journal.is_none() {
            self.outstanding.fetch_add(items, Ordering::AcqRel);
        }
    }

    /// `items` messages that were on the wire are published again.
    pub(super) fn republish(&self, items: usize) {
        self.counters.republished.fetch_add(items as u64, Ordering::Relaxed);
    }

    /// `items` messages are outstanding no longer.
    pub(super) fn cross_off(&self, items: usize) {
        if self.journal.is_some() {
            return;
        }
        if self.outstanding.fetch_sub(items, Ordering::AcqRel) == items {
            self.emptied.notify_waiters();
        }
    }

    /// `items` messages that were [accepted](Self::accept) as one envelope cannot be sent after all.
    pub(super) fn unsent(&self, items: usize, reply: OutcomeSender, kind: PublishErrorKind) {
        self.counters.failed.fetch_add(items as u64, Ordering::Relaxed);
        reply.settle(SendOutcome::Unsent(kind));
        self.cross_off(items);
    }

    /// Counts the outcome of an entry and tells its senders.
    ///
    /// A journaled entry that failed stays in the custody of the journal until each of its senders has read the
    /// failure.
    pub(super) fn settle(&self, mut entry: Entry, outcome: SendOutcome) {
        let counter = match &outcome {
            SendOutcome::Confirmed | SendOutcome::Written => &self.counters.confirmed,
            SendOutcome::Returned(_) => &self.counters.returned,
            SendOutcome::Nacked => &self.counters.nacked,
            SendOutcome::Refused { .. } | SendOutcome::Unsent(_) | SendOutcome::Closed => &self.counters.failed,
        };
        counter.fetch_add(entry.items() as u64, Ordering::Relaxed);
        let is_sent = matches!(outcome, SendOutcome::Confirmed | SendOutcome::Written);
        let Some(ledger) = &self.journal else {
            if !is_sent && entry.reply.unheard() {
                tracing::error!(
                    publisher = %self.name, message_id = %entry.message.id, ?outcome,
                    "message not published, and nobody waits for its receipt: the message is lost"
                );
            }
            let items = entry.items();
            entry.reply.settle(outcome);
            return self.cross_off(items);
        };
        // If the entry is tried again, this sender has heard of the first failure and no longer waits.
        let reply = std::mem::replace(&mut entry.reply, OutcomeSender::to_nobody(&entry.message));
        if is_sent {
            entry.position.into_iter().for_each(|position| ledger.settled(position));
            reply.settle(outcome);
        } else {
            let custody = Custody::new(ledger, entry, outcome.clone());
            reply.settle_in_custody(outcome, Box::new(custody));
        }
    }

    /// Hands an entry back to its senders, because the publisher is closed for the reason `why`.
    pub(super) fn hand_back(&self, entry: Entry, why: NotSent) {
        let items = entry.items();
        self.counters.failed.fetch_add(items as u64, Ordering::Relaxed);
        // A journaled message is not lost: the next process sends it.
        if entry.reply.unheard() && entry.detached && self.journal.is_none() {
            tracing::error!(
                publisher = %self.name, message_id = %entry.message.id,
                "publisher closed before this message was confirmed, and nobody waits for its receipt: it may be lost"
            );
        }
        entry.reply.close(why);
        self.cross_off(items);
    }

    /// Messages accepted and not settled. An envelope in the journal counts as one.
    pub(super) fn outstanding(&self) -> usize {
        match &self.journal {
            Some(ledger) => ledger.outstanding(),
            None => self.outstanding.load(Ordering::Acquire),
        }
    }

    /// Resolves when the last outstanding message is crossed off. Never, if there is a journal.
    pub(super) fn emptied(&self) -> Notified<'_> {
        self.emptied.notified()
    }

    /// The totals, with `outstanding` left at 0.
    pub(super) fn totals(&self) -> PublisherStats {
        self.counters.read(0)
    }
}
