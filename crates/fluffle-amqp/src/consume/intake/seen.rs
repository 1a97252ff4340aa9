//! Effectively once: which messages have been handled before, and which are being handled now.
//!
//! An id is remembered *after* its handler succeeded and *before* its delivery is acked. Remembered before the work, a
//! crash would swallow the retry. So a crash between the end of the work and its mark repeats the work, and nothing
//! else does, as long as one process handles the queue. See `docs/SEMANTICS.md`.

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
    message::identity,
    spec::seen_store::{SeenError, SeenStore},
};

/// The waits between attempts to reach a store that fails, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Resolves when the message of a key is no longer being handled.
type Release = Arc<SetOnce<()>>;

/// The keys whose messages are being handled now by this consumer, on whichever channel they came.
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

/// A key that is being handled. An attempt borrows it; when it is dropped, the next delivery with this key is looked
/// up.
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

    /// Whether a message has been handled. Waits for the store while it cannot answer.
    pub(crate) async fn has(&self, key: &str) -> bool {
        persist("look a message up", || self.store.contains(key)).await
    }

    /// Which of the keys belong to handled messages. Waits for the store while it cannot answer.
    pub(crate) async fn known(&self, keys: &[String]) -> Vec<bool> {
        persist("look the items of a batch up", || self.store.contains_all(keys)).await
    }

    /// Remembers handled items. Waits for the store while it cannot.
    pub(crate) async fn remember_all(&self, keys: &[String]) {
        if !keys.is_empty() {
            persist("remember the handled items of a batch", || self.store.insert_all(keys)).await;
        }
    }

    /// Remembers a handled message. Waits for the store while it cannot.
    pub(crate) async fn remember(&self, key: &str) {
        persist("remember a handled message", || self.store.insert(key)).await;
    }

    /// Looks a message up and, if it has not been handled, claims its key for this attempt.
    async fn look_up(self, mut attempt: Attempt, key: Arc<str>) -> Taken {
        let claim = match self.claims.claim(&key) {
            Ok(claim) => claim,
            // An earlier delivery of the same message is in hand. This one waits for its end and loses its place in the
            // order.
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

/// Asks until there is an answer. A look-up is dropped with its channel. A mark is not, and no more marks wait than
/// there are messages in hand, because a message that comes again meanwhile waits for the mark of the first.
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
