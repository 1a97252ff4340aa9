//! What the window's callers ask its thread for.

use tokio::sync::oneshot;

use crate::StoreError;

pub(super) struct Command {
    pub(super) question: Question,
    pub(super) ids: Vec<String>,
    /// Gets one answer for each id.
    pub(super) reply: oneshot::Sender<Result<Vec<bool>, StoreError>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Contains,
    Insert,
    Remove,
}
