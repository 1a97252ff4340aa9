//! Effectively once: knows which messages were handled before, and which are being handled now.
//!
//! A message is marked as handled *after* its handler succeeded and *before* its delivery is acked. If the mark were
//! written before the work, a crash would lose the message. So only a crash between the end of the work and its mark
//! repeats the work, as long as one process handles the queue. See `docs/SEMANTICS.md`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use tokio::{sync::SetOnce, time::sleep};

use crate::consume::{
    attempt::attempt::Attempt,
    intake::step::{IntakeStep, Taken},
    message::{
        identity::{self, ItemKeys},
        received::Received,
    },
    spec::seen_store::{SeenError, SeenStore},
};

/// The waits between attempts to reach a store that fails. They double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Resolves when the message of a key is no longer being handled.
type Release = Arc<SetOnce<()>>;

/// The keys of the messages that this consumer is handling now, on all its channels.
#[derive(Default)]
struct Claims {
    held: Mutex<HashMap<Arc<str>, Release>>,
}

impl Claims {
    /// Claims a key, or gives the release to wait for.
    fn claim(self: &Arc<Self>, key: &Arc<str>) -> Result<Claim, Release> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = held.get(key) {
            return Err(Arc::clone(release));
        }
        held.insert(Arc::clone(key), Arc::default());
        Ok(Claim { claims: Arc::clone(self), key: Arc::clone(key) })
    }
}

/// A claimed key: its message is being handled. The claim is lent to the attempt. When the claim is dropped, a waiting
/// delivery with the same key is looked up.
struct Claim {
    claims: Arc<Claims>,
    key: Arc<str>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let release = self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        if let Some(release) = release {
            let _ = release.set(());
        }
    }
}

/// One consumer's store, and what the consumer is handling now.
#[derive(Clone)]
pub(crate) struct Seen {
    store: Arc<dyn SeenStore>,
    claims: Arc<Claims>,
}

impl Seen {
    pub(crate) fn new(store: Arc<dyn SeenStore>) -> Self {
        Self { store, claims: Arc::default() }
    }

    /// Whether a message was handled. If the store fails, waits until it answers.
    pub(crate) async fn has(&self, key: &str) -> bool {
        persist("look a message up", key, || self.store.contains(key)).await
    }

    /// Which of the `items` items of a batch were handled. If the store fails, waits until it answers.
    pub(crate) async fn known(&self, batch: &Received, items: usize) -> Vec<bool> {
        let Some(keys) = ItemKeys::of(batch, 0..items) else { return Vec::new() };
        let replay = keys.of_replay();
        persist("look the items of a batch up", &keys.batch, || match &replay {
            Some(keys) => self.store.contains_all(keys),
            None => self.store.contains_items(&keys.batch, &keys.items),
        })
        .await
    }

    /// Marks items of a batch as handled. If the store fails, waits until it succeeds.
    pub(crate) async fn remember_items(&self, batch: &Received, items: impl Iterator<Item = usize>) {
        let Some(keys) = ItemKeys::of(batch, items).filter(|keys| !keys.items.is_empty()) else { return };
        let replay = keys.of_replay();
        persist("remember the handled items of a batch", &keys.batch, || match &replay {
            Some(keys) => self.store.insert_all(keys),
            None => self.store.insert_items(&keys.batch, &keys.items),
        })
        .await;
    }

    /// Marks a message as handled. If the store fails, waits until it succeeds.
    pub(crate) async fn remember(&self, key: &str) {
        persist("remember a handled message", key, || self.store.insert(key)).await;
    }

    /// Claims the key of a message and looks it up. If the message was not handled before, the attempt keeps the claim.
    async fn look_up(self, mut attempt: Attempt, key: Arc<str>) -> Taken {
        let claim = match self.claims.claim(&key) {
            Ok(claim) => claim,
            // An earlier delivery of the same message is in hand. This delivery waits until that one is done, and loses
            // its place in the order.
            Err(release) => {
                return Taken::Apart(
                    async move {
                        release.wait().await;
                        self.look_up(attempt, key).await
                    }
                    .boxed_local(),
                );
            }
        };
        if self.has(&key).await {
            return Taken::HandledBefore(attempt);
        }
        attempt.seen_key = Some(key);
        attempt.permits.lend(Box::new(claim));
        Taken::Ready(attempt)
    }
}

impl IntakeStep for Seen {
    /// A message without an id is handed over unseen: it cannot be told from any other, so at least once is all there
    /// is.
    fn begin(&self, attempt: Attempt) -> Result<LocalBoxFuture<'static, Taken>, Attempt> {
        match identity::key(&attempt) {
            Some(key) => Ok(self.clone().look_up(attempt, key.into()).boxed_local()),
            None => Err(attempt),
        }
    }
}

/// Asks the store until it answers. A look-up is dropped together with its channel, but a mark is not. The number of
/// waiting marks is bounded by the messages in hand, because a redelivered message waits for the mark of its first
/// delivery. `key` is that of the message, for log lines.
async fn persist<'a, T>(what: &str, key: &str, ask: impl Fn() -> BoxFuture<'a, Result<T, SeenError>>) -> T {
    let mut wait = FIRST_WAIT;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::error!(
                    key, %error, ?wait,
                    "the store of handled messages cannot {what}: \
                     the delivery stays unacked, and the store is asked again"
                );
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}
