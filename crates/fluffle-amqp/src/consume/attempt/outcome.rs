//! What came of an attempt at its handler: facts, from which `decide/` makes a verdict.

use std::{sync::Arc, time::Duration};

use fluffle_wire::{DecodeError, EncodeError, Encoded};

use crate::{
    base::failure::Failure,
    consume::attempt::{contents::Contents, crash::Crash},
};

/// What came of one attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Handled; the answer, if the handler gives one and somebody asked for it.
    Handled(Option<Encoded>),
    /// The handler returned a failure.
    Failed(Failure),
    /// The handler panicked, or ended, after it had been given the message and before it answered.
    Crashed(Crash),
    /// The body is not what its labels or this consumer say it is.
    Undecodable(DecodeError),
    /// No handler can be given it as it is, or its answer cannot be sent.
    Unusable(Unusable),
    /// No handler had been given it.
    NotStarted,
    /// A request whose requester had stopped waiting when its turn came. No handler was given it.
    Expired,
    /// It was a batch, and each of its items has a result.
    Items(ItemOutcomes),
    /// An item of a batch was answered after it had been given up: its index, and whether it was handled.
    LateItem(usize, bool),
}

/// Why no handler can be given a message, or why its answer cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("a batch asks for an answer: ask for each of its messages by itself")]
    BatchAsksForAnswer,
    #[error("the id of a batch is too long: `<id>/<number of the item>` may have 255 bytes")]
    BatchIdTooLong,
    #[error("reading its key panicked: see `Consume::ordered_by`")]
    KeyPanicked,
    #[error(transparent)]
    Answer(#[from] EncodeError),
}

impl Outcome {
    /// The handler has had the message for longer than `limit`.
    pub(crate) fn too_late(limit: Duration) -> Self {
        Outcome::Failed(Failure::retry(format!("the handler did not answer within {limit:?}")))
    }

    /// How many messages failed in any way. Items that were not begun have not failed.
    pub(crate) fn failures(&self) -> usize {
        match self {
            Outcome::Handled(_) | Outcome::NotStarted | Outcome::Expired => 0,
            Outcome::LateItem(_, handled) => usize::from(!handled),
            Outcome::Items(items) => {
                items.failed.iter().filter(|(_, why)| !matches!(**why, Outcome::NotStarted)).count()
            }
            Outcome::Failed(_) | Outcome::Crashed(_) | Outcome::Undecodable(_) | Outcome::Unusable(_) => 1,
        }
    }

    /// How many messages had their handler crash.
    pub(crate) fn crashes(&self) -> usize {
        match self {
            Outcome::Crashed(_) => 1,
            Outcome::Items(items) => {
                items.failed.iter().filter(|(_, why)| matches!(**why, Outcome::Crashed(_))).count()
            }
            _ => 0,
        }
    }
}

/// What came of the items of a batch.
#[derive(Debug, Default)]
pub(crate) struct ItemOutcomes {
    /// Items before this index have results. Those from it on were not begun, because their channel is gone.
    pub(crate) until: usize,
    /// Those that were not handled, by index, and why. Where order is kept by key, items that were not begun are among
    /// them.
    pub(crate) failed: Vec<(usize, Arc<Outcome>)>,
}

impl ItemOutcomes {
    /// Every item of `items` was handled, or need not be.
    pub(crate) fn all_handled(items: usize) -> Self {
        Self { until: items, failed: Vec::new() }
    }

    /// Whether each of `items` items was begun.
    pub(crate) fn is_complete(&self, items: usize) -> bool {
        self.until >= items && !self.failed.iter().any(|(_, why)| matches!(**why, Outcome::NotStarted))
    }

    /// The items that were handled.
    pub(crate) fn handled(&self, contents: &Contents) -> impl Iterator<Item = usize> {
        let is_handled = |index: &usize| self.failed.binary_search_by_key(index, |(failed, _)| *failed).is_err();
        contents.new_items(..self.until).filter(is_handled)
    }
}
