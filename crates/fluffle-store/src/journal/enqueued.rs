//! A record on its way to the disk.

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

/// A record in the journal's queue, and the wait for it to be safe; see [`Journal::enqueue`].
///
/// Dropped before it has resolved, it withdraws its record: that is not written, or taken out again. One that was
/// [posted](Journal::post) stays.
#[must_use = "dropped, it withdraws its record, unless that was posted"]
pub struct Enqueued {
    pub(super) answer: Answer,
    pub(super) record: Arc<Record>,
    pub(super) journal: Journal,
    /// The record stays, whoever waits for it.
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
        // From here on the thread notices; what it has sent before is here.
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
