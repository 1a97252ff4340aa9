//! The store in which a reader of a stream keeps how far it has come.

use futures_util::future::BoxFuture;

/// The store in which a reader of a stream keeps how far it has come; see [`StreamReader`](crate::StreamReader).
///
/// The key is the stream and the reader's name, so several readers may share a store. What is kept is the first offset
/// that is *not* done: all offsets below it are done. The reader begins there after a restart.
///
/// | store | for |
/// |---|---|
/// | [`Offsets::open`](crate::Offsets::open) | a file on the service's own disk |
/// | [`Offsets::in_memory`](crate::Offsets::in_memory) | tests: a restart of the process forgets all offsets |
/// | `PostgresOffsets` and `SqliteOffsets` of `fluffle_outbox` | the application's database and transaction |
///
/// [`Offsets`](crate::Offsets) needs the feature `store`, which is on by default.
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
/// use fluffle_amqp::{OffsetError, OffsetStore};
/// use futures_util::future::{BoxFuture, FutureExt, ready};
///
/// /// For tests: forgets all offsets when the process ends.
/// #[derive(Default)]
/// struct InMemory(Mutex<HashMap<(String, String), u64>>);
///
/// impl OffsetStore for InMemory {
///     fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>> {
///         let key = (stream.to_owned(), reader.to_owned());
///         ready(Ok(self.0.lock().unwrap().get(&key).copied())).boxed()
///     }
///     fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>> {
///         let mut offsets = self.0.lock().unwrap();
///         let kept = offsets.entry((stream.to_owned(), reader.to_owned())).or_default();
///         *kept = next.max(*kept);
///         ready(Ok(())).boxed()
///     }
/// }
/// ```
pub trait OffsetStore: Send + Sync + 'static {
    /// The first offset of `stream` that `reader` is not done with; `None` if none was kept. Asked once, before the
    /// reader subscribes for the first time. After an error the reader asks again, and does not subscribe meanwhile.
    fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>>;

    /// Keeps that `reader` is done with all offsets of `stream` below `next`. Resolves when that is as durable as the
    /// store makes it. After an error the reader tries again; see
    /// [`StreamReader::keep_every`](crate::StreamReader::keep_every).
    ///
    /// An offset never goes back: if a higher one is kept, that one stays, and this is no error.
    fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>>;
}

/// A store on the local disk or in memory.
impl OffsetStore for fluffle_store::Offsets {
    fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>> {
        Box::pin(async move { Ok(self.kept(stream, reader).await?) })
    }

    fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>> {
        Box::pin(async move { Ok(self.keep(stream, reader, next).await?) })
    }
}

/// Why an [`OffsetStore`] cannot answer.
pub type OffsetError = Box<dyn std::error::Error + Send + Sync>;
