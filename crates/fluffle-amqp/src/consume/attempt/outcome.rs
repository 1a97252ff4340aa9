//! The outcome of an attempt. It states facts; `decide/` makes a verdict from them.

use std::{sync::Arc, time::Duration};

use fluffle_wire::{DecodeError, EncodeError, Encoded, headers::error_chain};

use crate::{
    base::failure::Failure,
    consume::attempt::{contents::Contents, crash::Crash},
};

/// The outcome of one attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Handled, with the answer, if the sender asked for one.
    Handled(Option<Encoded>),
    /// The handler returned a failure.
    Failed(Failure),
    /// The handler panicked or ended, after it was given the message and before it answered.
    Crashed(Crash),
    /// The body is not what its labels or this consumer say it is.
    Undecodable(DecodeError),
    /// No handler can be given the message, or its answer cannot be sent.
    Unusable(Unusable),
    /// No handler was given the message.
    NotStarted,
    /// A request that no handler was given, because its requester had stopped waiting when its turn came.
    Expired,
    /// The delivery was a batch, and each of its items has a result.
    Items(ItemOutcomes),
    /// An item of a batch was answered after it was given up: its index, and whether it was handled.
    LateItem(usize, bool),
}

/// Why no handler can be given a message, or why its answer cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("a batch asks for an answer, but only a single message can: send each request as a message of its own")]
    BatchAsksForAnswer,
    #[error("the id of a batch is too long: `<id>/<index of the item>` may have at most 255 bytes; use a shorter id")]
    BatchIdTooLong,
    #[error("the function that reads the message's key panicked: see `Consume::ordered_by`")]
    KeyPanicked,
    #[error(transparent)]
    Answer(#[from] EncodeError),
}

impl Outcome {
    /// The outcome if the handler has had the message for longer than `limit`.
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

    /// Why it failed, in one line; of a batch, why its first failed item did. `None` if nothing failed.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Outcome::Failed(failure) => Some(failure.chain()),
            Outcome::Crashed(crash) => Some(crash.text()),
            Outcome::Undecodable(error) => Some(error_chain(error)),
            Outcome::Unusable(why) => Some(error_chain(why)),
            Outcome::Items(items) => items.failed.iter().find_map(|(_, why)| why.failure()),
            Outcome::Handled(_) | Outcome::NotStarted | Outcome::Expired | Outcome::LateItem(..) => None,
        }
    }

    /// How many messages had a handler that crashed.
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

/// The outcomes of the items of a batch.
#[derive(Debug, Default)]
pub(crate) struct ItemOutcomes {
    /// Items before this index have results. Items from it on were not begun, because their channel is lost.
    pub(crate) until: usize,
    /// The items that were not handled, by index, and why. If order is kept by key, items that were not begun are among
    /// them.
    pub(crate) failed: Vec<(usize, Arc<Outcome>)>,
}

impl ItemOutcomes {
    /// The outcomes if each of `items` items was handled, or need not be.
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
