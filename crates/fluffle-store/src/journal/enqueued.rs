//! A record that is about to be written to the disk.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::{AppendError, AppendErrorKind, Journal, Position, Record};
use crate::StoreError;

pub(super) type Answer = oneshot::Receiver<Result<Position, StoreError>>;

/// A record in the journal's queue. The future resolves when the record is durable; see [`Journal::enqueue`].
///
/// If it is dropped before it has resolved, its record is not written, or is removed again. A record that was
/// [posted](Journal::post) stays.
#[must_use = "dropping it withdraws its record, unless the record was posted"]
pub struct Enqueued {
    pub(super) answer: Answer,
    pub(super) record: Arc<Record>,
    pub(super) journal: Journal,
    /// If true, the record stays even if this is dropped.
    pub(super) keep: bool,
}

impl Future for Enqueued {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let kind = match ready!(Pin::new(&mut self.answer).poll(context)) {
            Ok(Ok(position)) => return Poll::Ready(Ok(position)),
            Ok(Err(error)) => AppendErrorKind::Store(error),
            Err(_died) => AppendErrorKind::Store(self.journal.0.writer.closed()),
        };
        Poll::Ready(Err(AppendError { record: Record::clone(&self.record), kind }))
    }
}

impl Drop for Enqueued {
    fn drop(&mut self) {
        // From here on the thread sees that nobody waits. An answer that it sent before is in the channel and is
        // handled below.
        self.answer.close();
        if self.keep {
            return;
        }
        if let Ok(Ok(position)) = self.answer.try_recv() {
            self.journal.confirm(position);
        }
    }
}

impl fmt::Debug for Enqueued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enqueued").field("id", &self.record.id).finish_non_exhaustive()
    }
}
