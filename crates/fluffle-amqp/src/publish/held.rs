//! The memory of a message that was read from a journal.

use std::sync::Arc;

use crate::flow::budget::Budget;

/// The bytes of one message that was read from the journal, until the message is settled.
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    pub(crate) fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        let held = Self { budget: Arc::clone(budget), bytes: bytes as u64 };
        held.budget.take(held.bytes);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody is told: the reader of the journal looks again at each confirm, and with the clock of its publisher.
        let _reader_was_refused = self.budget.give_back(self.bytes);
    }
}
