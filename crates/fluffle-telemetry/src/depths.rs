//! What waits in outbox tables and in dead-letter queues. A look asks a database or the broker, so it is made rarely
//! and on a thread of its own: the looks at the service wait for nobody.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use fluffle_amqp::{Service, StoreDepth};
use fluffle_supervise::State;
use tokio::{runtime::Builder, time::timeout};

/// How far two looks are apart.
const EVERY: Duration = Duration::from_secs(5);

/// How soon the next look follows one that had no answer, for example because the service was still connecting.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a look may take. A thread of the service that blocks must not keep this thread for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// What the last look found.
#[derive(Debug, Default)]
pub(crate) struct Depths {
    /// By publisher: its outbox tables, or why they cannot be counted.
    pub(crate) outboxes: BTreeMap<String, Result<StoreDepth, String>>,
    /// By consumed queue: the messages that are ready in its dead-letter queue. Empty if the broker did not answer.
    pub(crate) dead_letters: BTreeMap<String, u64>,
}

/// The last look, shared with the thread that makes the looks. That thread ends when this value is dropped.
#[derive(Debug, Default)]
pub(crate) struct LastDepths(Arc<Mutex<Arc<Depths>>>);

impl LastDepths {
    pub(crate) fn get(&self) -> Arc<Depths> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at `service` from now on, until it has ended.
    pub(crate) fn watch(&self, service: Service) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let last = Arc::downgrade(&self.0);
        let watch = move || {
            loop {
                let looked = runtime.block_on(async { timeout(LIMIT, look(&service, &last)).await });
                let Some(wait) = looked.unwrap_or(Some(AGAIN)) else { return };
                thread::sleep(wait);
            }
        };
        thread::Builder::new().name("telemetry-depths".to_owned()).spawn(watch).map(drop)
    }
}

/// Looks once. Says how long to wait until the next look, or `None` if there is nothing more to look at.
async fn look(service: &Service, last: &Weak<Mutex<Arc<Depths>>>) -> Option<Duration> {
    if matches!(service.snapshot().state, State::Stopped | State::Failed) {
        return None;
    }
    let outboxes = service.outboxes().await.into_iter();
    let outboxes = outboxes.map(|(name, depth)| (name, depth.map_err(|error| error.to_string()))).collect();
    let mut depths = Depths { outboxes, dead_letters: BTreeMap::new() };
    let letters = service.dead_letters().await;
    let wait = if letters.is_ok() { EVERY } else { AGAIN };
    for letters in letters.unwrap_or_default() {
        *depths.dead_letters.entry(letters.queue).or_default() += letters.ready;
    }
    *last.upgrade()?.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(depths);
    Some(wait)
}
