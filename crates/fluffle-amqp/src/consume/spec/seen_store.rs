//! The store in which a consumer with effectively once remembers which messages have been handled.

use futures_util::future::BoxFuture;

/// Where [`Consume::effectively_once`](crate::Consume::effectively_once) remembers which messages have been handled.
///
/// A key is the consumer's queue and the message's id, so several consumers may share a store. How long a key is kept
/// is the store's to say: longer than a duplicate can be on its way, retries and replays of unconfirmed messages
/// included.
///
/// ```
/// use std::{collections::HashSet, sync::Mutex};
/// use fluffle_amqp::{SeenError, SeenStore};
/// use futures_util::future::{BoxFuture, FutureExt, ready};
///
/// /// Remembers until the process ends, without a bound: good for a test.
/// #[derive(Default)]
/// struct InMemory(Mutex<HashSet<String>>);
///
/// impl SeenStore for InMemory {
///     fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
///         ready(Ok(self.0.lock().unwrap().contains(key))).boxed()
///     }
///     fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
///         self.0.lock().unwrap().insert(key.to_owned());
///         ready(Ok(())).boxed()
///     }
/// }
/// ```
pub trait SeenStore: Send + Sync + 'static {
    /// Whether `key` has been inserted, and is still kept. An error is tried again, while the delivery waits unacked.
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>>;

    /// Remembers `key`; resolves when it would survive what the store survives. An error is tried again, while the
    /// delivery waits unacked. Inserting what is there already is no error.
    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>>;

    /// [`contains`](Self::contains) for the items of a batch: an answer for each key, in their order. By default it
    /// asks for one after the other; a store that can should ask for all at once.
    fn contains_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move {
            let mut known = Vec::with_capacity(keys.len());
            for key in keys {
                known.push(self.contains(key).await?);
            }
            Ok(known)
        })
    }

    /// [`insert`](Self::insert) for the items of a batch; after an error some may have been inserted. By default one
    /// after the other; a store that can should take them in one transaction.
    fn insert_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move {
            for key in keys {
                self.insert(key).await?;
            }
            Ok(())
        })
    }
}

/// On the local disk, or in memory; kept for as long as its options say.
impl SeenStore for fluffle_store::SeenIds {
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        Box::pin(async move { Ok(self.contains(key).await?) })
    }

    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move { Ok(self.insert(key).await.map(|_was_new| ())?) })
    }

    fn contains_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move { Ok(self.contains_all(keys.to_vec()).await?) })
    }

    fn insert_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move { Ok(self.insert_all(keys.to_vec()).await.map(|_were_new| ())?) })
    }
}

/// Why a [`SeenStore`] cannot answer.
pub type SeenError = Box<dyn std::error::Error + Send + Sync>;
