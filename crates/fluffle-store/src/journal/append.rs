//! Appending: a record on its way to the disk.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::{
    AppendError, AppendErrorKind, Journal, Position, Record,
    command::{Append, Command},
};
use crate::StoreError;

type Answer = oneshot::Receiver<Result<Position, StoreError>>;

impl Journal {
    /// Writes a record. Resolves when the record is as durable as the [`Flush`](crate::Flush) policy says.
    ///
    /// Order: if one append starts after another has resolved, its record comes later. Concurrent appends have no fixed
    /// order; see [`enqueue`](Self::enqueue).
    ///
    /// Cancel safe: if the future is dropped, the record is not written, or is removed again. Only if the process
    /// crashes at that moment, the next process may find the record.
    ///
    /// # Errors
    ///
    /// The record comes back in an [`AppendError`] that says why. After a failed append, a later one succeeds only if
    /// its own record is as durable as promised.
    pub async fn append(&self, record: Record) -> Result<Position, AppendError> {
        self.enqueue(record).await?.await
    }

    /// The first half of [`append`](Self::append): resolves when the record's place in the order is fixed. The returned
    /// [`Enqueued`] is the second half, which waits until the record is durable.
    ///
    /// A publisher uses it to keep its order without waiting for the disk at each message: it enqueues messages one
    /// after the other, and waits for many at once.
    ///
    /// Cancel safe, as `append` is.
    ///
    /// # Errors
    ///
    /// The same as for `append`: if there is no room, if the record exceeds a limit, or if the journal is closed.
    pub async fn enqueue(&self, record: Record) -> Result<Enqueued, AppendError> {
        self.begin(record, false).await
    }

    /// Like [`enqueue`](Self::enqueue), but the record stays even if the returned [`Enqueued`] is dropped.
    ///
    /// Cancel safe: if the future is dropped before it resolves, nothing is written.
    ///
    /// # Errors
    ///
    /// The same as for `enqueue`.
    pub async fn post(&self, record: Record) -> Result<Enqueued, AppendError> {
        self.begin(record, true).await
    }

    async fn begin(&self, record: Record, keep: bool) -> Result<Enqueued, AppendError> {
        let record = Arc::new(record);
        match self.send(&record, keep).await {
            Ok(answer) => Ok(Enqueued { answer, record, journal: self.clone(), keep }),
            Err(kind) => Err(AppendError { record: Arc::unwrap_or_clone(record), kind }),
        }
    }

    async fn send(&self, record: &Arc<Record>, keep: bool) -> Result<Answer, AppendErrorKind> {
        let size = self.size(record)?;
        let room = self.room(size).await?;
        let slot = self.0.writer.slot().await?;
        let (reply, answer) = oneshot::channel();
        // From here on the journal's thread gives this room back.
        room.forget();
        self.0.shared.counts.add(size);
        slot.send(Command::Append(Append { record: Arc::clone(record), size, keep, reply }));
        Ok(answer)
    }
}

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
