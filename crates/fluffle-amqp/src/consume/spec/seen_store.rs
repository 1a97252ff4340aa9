//! The store in which a consumer with effectively once remembers which messages were handled.

use futures_util::future::BoxFuture;

/// The store in which [`Consume::effectively_once`](crate::Consume::effectively_once) remembers which messages were
/// handled.
///
/// A key contains the consumer's queue and the message's id, so several consumers may share a store. The store decides
/// how long it keeps a key. It must keep it for longer than a duplicate can be on its way; retries, and messages that a
/// publisher sends again because they were not confirmed, can make that long.
///
/// ```
/// use std::{collections::HashSet, sync::Mutex};
/// use fluffle_amqp::{SeenError, SeenStore};
/// use futures_util::future::{BoxFuture, FutureExt, ready};
///
/// /// For tests: keeps every key until the process ends.
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
    /// Whether `key` was inserted and is still kept. After an error the consumer asks again, while the delivery waits
    /// unacked.
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>>;

    /// Remembers `key`. Resolves when the key is as durable as the store makes it. After an error the consumer tries
    /// again, while the delivery waits unacked. Inserting a key that is there already is not an error.
    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>>;

    /// [`contains`](Self::contains) for many keys: one answer for each key, in the order of the keys. The default asks
    /// for one key after the other; a store should override it if it can ask for all at once.
    fn contains_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move {
            let mut known = Vec::with_capacity(keys.len());
            for key in keys {
                known.push(self.contains(key).await?);
            }
            Ok(known)
        })
    }

    /// [`insert`](Self::insert) for many keys. After an error, some keys may have been inserted. The default inserts
    /// one key after the other; a store should override it if it can insert all in one transaction.
    fn insert_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move {
            for key in keys {
                self.insert(key).await?;
            }
            Ok(())
        })
    }

    /// [`contains_all`](Self::contains_all) for the items of a batch, whose keys are `<batch>/<item>`. An item that is
    /// retried comes by itself and under the same key: what [`insert`](Self::insert) was given is found here, and the
    /// other way round. The default asks for all keys; a store should override it if it can keep the items of a batch
    /// together.
    fn contains_items<'a>(&'a self, batch: &'a str, items: &'a [u32]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move { self.contains_all(&item_keys(batch, items)).await })
    }

    /// [`insert_all`](Self::insert_all) for the items of a batch, whose keys are `<batch>/<item>`.
    fn insert_items<'a>(&'a self, batch: &'a str, items: &'a [u32]) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move { self.insert_all(&item_keys(batch, items)).await })
    }
}

fn item_keys(batch: &str, items: &[u32]) -> Vec<String> {
    items.iter().map(|item| format!("{batch}/{item}")).collect()
}

/// A store on the local disk or in memory. Its options say how long it keeps a key. It can be opened only with
/// the feature `store`, which is on by default.
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

    fn contains_items<'a>(&'a self, batch: &'a str, items: &'a [u32]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move { Ok(self.contains_items(batch, items).await?) })
    }

    fn insert_items<'a>(&'a self, batch: &'a str, items: &'a [u32]) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async move { Ok(self.insert_items(batch, items).await.map(|_were_new| ())?) })
    }
}

/// Why a [`SeenStore`] cannot answer.
pub type SeenError = Box<dyn std::error::Error + Send + Sync>;
