//! The units of work in a handler queue.

use std::sync::Arc;

use crate::consume::attempt::{
    attempt::Attempt,
    items::{Item, Opened},
    ticket::Ticket,
};

/// Work for a handler.
pub(crate) struct Job {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// The whole delivery.
    Whole(Ticket),
    /// The remaining items of a batch whose handler ended before it had begun them.
    Rest(Opened),
    /// One item of a batch, where order is kept by key.
    Item(Item),
}

impl Job {
    /// The whole of `attempt`; its answer goes through `ticket`.
    pub(crate) fn whole(attempt: Arc<Attempt>, ticket: Ticket) -> Self {
        Self { attempt, work: Work::Whole(ticket) }
    }

    /// Whether a handler has begun a part of this. A job that was begun is never taken back.
    pub(crate) fn is_begun(&self) -> bool {
        match self.work {
            Work::Whole(_) => false,
            Work::Rest(_) => true,
            Work::Item(_) => self.attempt.is_started(),
        }
    }
}
