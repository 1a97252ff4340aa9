//! What the window's callers ask its thread for.

use tokio::sync::oneshot;

use crate::StoreError;

pub(super) struct Command {
    pub(super) question: Question,
    pub(super) ids: Ids,
    /// Gets one answer for each id. `None`: it has them.
    pub(super) reply: Option<oneshot::Sender<Result<Vec<bool>, StoreError>>>,
}

impl Command {
    pub(super) fn reply(&mut self, answer: Result<Vec<bool>, StoreError>) {
        if let Some(reply) = self.reply.take() {
            let _gone = reply.send(answer);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Contains,
    Insert,
    Remove,
}

pub(super) enum Ids {
    Each(Vec<String>),
    /// Items of a batch.
    Items(String, Vec<u32>),
}

impl Ids {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Each(ids) => ids.len(),
            Self::Items(_, items) => items.len(),
        }
    }
}
