//! Which messages have been handled before: what makes *at least once* effectively once.
//!
//! An id is remembered *after* its handler succeeded and *before* its delivery is acked: marked before the work, a
//! crash would swallow the retry. So a crash between the end of the work and its mark repeats the work, and nothing
//! else does, as long as one process handles the queue. See `docs/SEMANTICS.md`.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fluffle_wire::headers;
use futures_util::future::BoxFuture;
use tokio::{sync::SetOnce, time::sleep};

use crate::consume::message::received::{Received, item_id};

/// The waits between attempts to reach a store that fails, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Where [`Consume::effectively_once`](crate::Consume::effectively_once) remembers which messages have been handled.
///
/// A key is the consumer's queue and the message's id, so several consumers may share a store. How long a key is kept is the
/// store's to say: longer than a duplicate can be on its way, retries and replays of unconfirmed messages included.
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

    /// Remembers `key`; resolves when it would survive what the store survives. An error is tried again, while the delivery
    /// waits unacked. Inserting what is there already is no error.
    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>>;

    /// [`contains`](Self::contains) for the items of a batch: an answer for each key, in their order. By default it asks for one
    /// after the other; a store that can should ask for all at once.
    fn contains_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move {
            let mut known = Vec::with_capacity(keys.len());
            for key in keys {
                known.push(self.contains(key).await?);
            }
            Ok(known)
        })
    }

    /// [`insert`](Self::insert) for the items of a batch; after an error some may have been inserted. By default one after the
    /// other; a store that can should take them in one transaction.
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

/// What a message is remembered by; `None` for one without an id, which cannot be told from another.
///
/// A deliberate replay passes: one put back from the dead-letter queue, or sent with a replay id of its own, is another
/// message to the store than the original.
pub(crate) fn key(received: &Received) -> Option<String> {
    Some(key_of(received, received.message_id()?))
}

/// What items of a batch are remembered by: as what each is when it comes by itself, for another attempt.
pub(crate) fn item_keys(received: &Received, items: impl Iterator<Item = usize>) -> Vec<String> {
    let Some(id) = received.message_id() else { return Vec::new() };
    items.map(|index| key_of(received, &item_id(id, index))).collect()
}

fn key_of(received: &Received, id: &str) -> String {
    // Its length first: a queue's name may hold what stands between it and the id.
    let mut key = format!("{}:{}/{id}", received.queue.len(), received.queue);
    if let Some(replay) = replay(received) {
        key.extend(["/replay/", &*replay]);
    }
    key
}

/// What tells a message that is sent again on purpose from its original: the id of its replay, and whether it is a dead letter
/// that was put back.
pub(crate) fn replay(received: &Received) -> Option<Cow<'_, str>> {
    let replay = received.header(headers::REPLAY).and_then(|header| header.text());
    match (replay, received.header(headers::REASON)) {
        (replay, None) => replay.map(Cow::Borrowed),
        (None, Some(_)) => Some(Cow::Borrowed("dead")),
        (Some(replay), Some(_)) => Some(Cow::Owned(format!("{replay}/dead"))),
    }
}

/// The keys whose messages are being handled now, by this consumer, on whichever channel they came.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<String, Arc<SetOnce<()>>>>,
}

impl Claims {
    /// Claims a key, or gives the release to wait for.
    pub(crate) fn claim(self: &Arc<Self>, key: String) -> Result<HandlingClaim, Arc<SetOnce<()>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = held.get(&key) {
            return Err(Arc::clone(release));
        }
        held.insert(key.clone(), Arc::default());
        Ok(HandlingClaim { claims: Arc::clone(self), key, released: AtomicBool::new(false) })
    }
}

/// A key that is being handled: released when told, or with the last trace of its delivery.
pub(crate) struct HandlingClaim {
    claims: Arc<Claims>,
    pub(crate) key: String,
    released: AtomicBool,
}

impl HandlingClaim {
    /// Lets the next delivery with this key be looked at.
    pub(crate) fn release(&self) {
        if self.released.swap(true, Ordering::AcqRel) {
            return;
        }
        let release = self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        if let Some(release) = release {
            let _ = release.set(());
        }
    }
}

impl Drop for HandlingClaim {
    fn drop(&mut self) {
        self.release();
    }
}

impl std::fmt::Debug for HandlingClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HandlingClaim").field(&self.key).finish()
    }
}

/// One consumer's store, and what it is handling now.
#[derive(Clone)]
pub(crate) struct Seen {
    store: Arc<dyn SeenStore>,
    claims: Arc<Claims>,
}

/// What is known of a delivery's message.
pub(crate) enum Known {
    /// Handled before.
    Handled,
    /// Not handled before: it is now this delivery's to handle.
    New(HandlingClaim),
    /// An earlier delivery of it is being handled. Look again when that is over.
    InHand(Arc<SetOnce<()>>),
}

impl Seen {
    pub(crate) fn new(store: Arc<dyn SeenStore>) -> Self {
        Self { store, claims: Arc::default() }
    }

    /// Looks a message up; while the store cannot answer, waits for it.
    pub(crate) async fn look_up(&self, key: String) -> Known {
        let claim = match self.claims.claim(key) {
            Ok(claim) => claim,
            Err(release) => return Known::InHand(release),
        };
        let known = persist("look a message up", || self.store.contains(&claim.key)).await;
        if known { Known::Handled } else { Known::New(claim) }
    }

    /// Whether a message has been handled; while the store cannot answer, waits for it.
    pub(crate) async fn has(&self, key: &str) -> bool {
        persist("look a message up", || self.store.contains(key)).await
    }

    /// Which of the keys belong to handled messages; while the store cannot answer, waits for it.
    pub(crate) async fn known(&self, keys: &[String]) -> Vec<bool> {
        persist("look the items of a batch up", || self.store.contains_all(keys)).await
    }

    /// Remembers handled items; while the store cannot, waits for it.
    pub(crate) async fn remember_all(&self, keys: &[String]) {
        if !keys.is_empty() {
            persist("remember the handled items of a batch", || self.store.insert_all(keys)).await;
        }
    }

    /// Remembers a handled message; while the store cannot, waits for it.
    pub(crate) async fn remember(&self, key: &str) {
        persist("remember a handled message", || self.store.insert(key)).await;
    }
}

/// Asks until there is an answer. Who wants to know is dropped with its channel; what is to be remembered is not, and no more of
/// that waits than was in hand, for a message that comes again meanwhile is in hand, too.
async fn persist<'a, T>(what: &str, ask: impl Fn() -> BoxFuture<'a, Result<T, SeenError>>) -> T {
    let mut wait = FIRST_WAIT;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::error!(%error, ?wait, "the store of seen messages cannot {what}: the delivery stays unacked, trying again");
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}
