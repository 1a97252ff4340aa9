//! How many messages of a publisher are unsettled, its totals, and what a settled entry does to both.

use std::{sync::Arc, time::Instant};

use tokio::sync::futures::Notified;

use crate::{
    base::{
        events::{PublishEvent, PublishResult},
        observer::Listeners,
    },
    publish::{
        entry::{Entry, Times},
        error::PublishErrorKind,
        journal::{Custody, Ledger},
        name::PublisherName,
        outcome::{OutcomeSender, SendOutcome},
        stats::PublisherStats,
        tally::Tally,
        travel::NotSent,
    },
};

/// The books of one publisher. Messages in open batches are not on them yet.
pub(super) struct Books {
    name: Arc<PublisherName>,
    journal: Option<Arc<Ledger>>,
    tally: Arc<Tally>,
}

impl Books {
    pub(super) fn new(name: Arc<PublisherName>, journal: Option<Arc<Ledger>>) -> Self {
        let tally = journal.as_ref().map(|ledger| Arc::clone(&ledger.tally)).unwrap_or_default();
        Self { name, journal, tally }
    }

    /// `items` messages are accepted: they are outstanding until [`settle`](Self::settle) or
    /// [`cross_off`](Self::cross_off).
    pub(super) fn accept(&self, items: usize) {
        self.tally.accept(items);
    }

    /// The items of a batch that was `opened` then are accepted.
    pub(super) fn accept_batch(&self, items: usize, opened: tokio::time::Instant) {
        self.tally.accept_batch(items, opened);
    }

    /// `items` messages that were on the wire are published again.
    pub(super) fn republish(&self, items: usize) {
        self.tally.events.republished(items);
    }

    /// `items` messages are not sent, because their senders no longer wait.
    pub(super) fn withdrawn(&self, items: usize) {
        if items > 0 {
            self.tally.events.settled(PublishResult::Withdrawn, items, 0, Times::default());
            self.cross_off(items);
        }
    }

    /// The time, if listeners want to hear it.
    pub(super) fn now(&self) -> Option<Instant> {
        self.tally.events.now()
    }

    /// From now on these hear of what happens.
    pub(super) fn listen(&self, listeners: Listeners<PublishEvent>) {
        self.tally.events.listen(listeners);
    }

    /// `items` messages are outstanding no longer.
    pub(super) fn cross_off(&self, items: usize) {
        self.tally.cross_off(items);
    }

    /// `items` messages that were [accepted](Self::accept) as one envelope cannot be sent after all.
    pub(super) fn unsent(&self, items: usize, reply: OutcomeSender, kind: PublishErrorKind) {
        self.tally.events.settled(PublishResult::Failed, items, 0, Times::default());
        reply.settle(SendOutcome::Unsent(kind));
        self.cross_off(items);
    }

    /// Counts the outcome of an entry and tells its senders.
    ///
    /// A journaled entry that failed stays in the custody of the journal until each of its senders has read the
    /// failure. It is settled then, and not before: if no sender takes it back, it is tried again.
    pub(super) fn settle(&self, mut entry: Entry, outcome: SendOutcome) {
        let result = outcome.result();
        let is_sent = matches!(outcome, SendOutcome::Confirmed | SendOutcome::Written);
        let (items, bytes) = (entry.items(), entry.message.body.len());
        if is_sent || self.journal.is_none() {
            self.tally.events.settled(result, items, bytes, entry.times);
        }
        let Some(ledger) = &self.journal else {
            if !is_sent && entry.reply.unheard() {
                tracing::error!(
                    publisher = %self.name, message_id = %entry.message.id, trace_id = entry.message.trace_id(),
                    ?outcome,
                    "message not published, and nobody waits for its receipt: the message is lost"
                );
            }
            entry.reply.settle(outcome);
            return self.cross_off(items);
        };
        // If the entry is tried again, this sender has heard of the first failure and no longer waits.
        let reply = std::mem::replace(&mut entry.reply, OutcomeSender::to_nobody(&entry.message));
        if is_sent {
            entry.position.into_iter().for_each(|position| ledger.settled(position));
            reply.settle(outcome);
            self.cross_off(items);
        } else {
            let custody = Custody::new(ledger, entry, outcome.clone(), result);
            reply.settle_in_custody(outcome, Box::new(custody));
        }
    }

    /// Hands an entry back to its senders, because the publisher is closed for the reason `why`.
    pub(super) fn hand_back(&self, entry: Entry, why: NotSent) {
        if self.journal.is_some() {
            // It is neither lost nor settled: the next process sends it.
            return entry.reply.close(why);
        }
        let items = entry.items();
        self.tally.events.settled(PublishResult::Failed, items, entry.message.body.len(), entry.times);
        if entry.reply.unheard() && entry.detached {
            tracing::error!(
                publisher = %self.name, message_id = %entry.message.id, trace_id = entry.message.trace_id(),
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
            None => self.tally.outstanding(),
        }
    }

    /// Messages accepted and not settled. With a journal: those in it that wait for another try or for their senders to
    /// look included, and those that an earlier process left only once they are read.
    pub(super) fn unsettled(&self) -> usize {
        self.tally.outstanding()
    }

    /// Resolves when the last outstanding message is crossed off. Never, if there is a journal.
    pub(super) fn emptied(&self) -> Notified<'_> {
        self.tally.emptied.notified()
    }

    /// The totals, with `outstanding` left at 0.
    pub(super) fn totals(&self) -> PublisherStats {
        self.tally.events.totals()
    }
}
