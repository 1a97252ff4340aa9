//! What the store's callers ask its thread for.

use tokio::sync::oneshot;

use crate::StoreError;

pub(super) struct Command {
    pub(super) stream: String,
    pub(super) reader: String,
    pub(super) what: What,
    /// Gets the offset that was there before the command.
    pub(super) reply: oneshot::Sender<Result<Option<u64>, StoreError>>,
}

#[derive(Clone, Copy)]
pub(super) enum What {
    Find,
    Keep(u64),
    Forget,
}
