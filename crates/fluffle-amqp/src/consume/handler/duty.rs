//! The duty to answer for a message that a handler has taken.

use std::{sync::Arc, task::Context};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::{attempt::Attempt, crash::Crash, items::ItemTicket, outcome::Outcome, ticket::Ticket},
        handler::adapter::Adapter,
    },
};

/// The duty to answer for a delivery, or for one item of a batch. Dropping it answers "crashed".
pub(crate) enum Duty {
    Delivery(Ticket, Arc<Attempt>),
    Item(ItemTicket),
}

impl Duty {
    /// The index of the item; `None` for a whole delivery.
    pub(crate) fn index(&self) -> Option<usize> {
        match self {
            Duty::Delivery(..) => None,
            Duty::Item(item) => Some(item.index()),
        }
    }

    pub(crate) fn attempt(&self) -> &Arc<Attempt> {
        match self {
            Duty::Delivery(_, attempt) => attempt,
            Duty::Item(item) => item.attempt(),
        }
    }

    /// Whether the message was given up. If not, the task is woken when it is.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        match self {
            Duty::Delivery(_, attempt) => attempt.poll_given_up(cx),
            Duty::Item(item) => item.poll_given_up(cx),
        }
    }

    /// The message was given up. If it is an item, its key is freed, so that the next message of the key can be handed
    /// out. The key of a whole delivery is freed by the code that settles it.
    pub(crate) fn free_key(&mut self) {
        if let Duty::Item(item) = self {
            item.free_key();
        }
    }

    pub(crate) fn answer<F: Adapter>(self, adapter: &F, answer: Result<F::Answer, Failure>) {
        let outcome = adapter.outcome(self.attempt(), answer);
        self.answer_with(outcome);
    }

    pub(crate) fn crashed(self, crash: Crash) {
        self.answer_with(Outcome::Crashed(crash));
    }

    fn answer_with(self, outcome: Outcome) {
        match self {
            Duty::Delivery(ticket, _) => ticket.answer(outcome),
            Duty::Item(item) => item.answer(outcome),
        }
    }
}
