//! Which routing keys have a message that was sent and has no outcome. Batches that form by themselves wait for that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The routing keys of one publisher, or of one lane, of which something is unconfirmed: accepted to be sent, and
/// without an outcome.
pub(crate) struct UnconfirmedKeys {
    keys: Mutex<HashMap<Arc<str>, Key>>,
    /// Told when a key for which messages gather has nothing unconfirmed any more.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Key {
    /// Messages and envelopes. A key without any is not in the table.
    unconfirmed: usize,
    gathers: bool,
}

/// One unconfirmed message or envelope, until this is dropped.
pub(crate) struct Unconfirmed {
    of: Arc<UnconfirmedKeys>,
    key: Arc<str>,
}

impl UnconfirmedKeys {
    pub(crate) fn new(changed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), changed })
    }

    /// A message or envelope of this key is about to be sent.
    pub(crate) fn begin(self: &Arc<Self>, key: &Arc<str>) -> Unconfirmed {
        self.keys().entry(Arc::clone(key)).or_default().unconfirmed += 1;
        Unconfirmed { of: Arc::clone(self), key: Arc::clone(key) }
    }

    /// [`begin`](Self::begin), if nothing of this key is unconfirmed.
    pub(crate) fn begin_first(self: &Arc<Self>, key: &str) -> Option<Unconfirmed> {
        let mut keys = self.keys();
        if keys.contains_key(key) {
            return None;
        }
        let key: Arc<str> = key.into();
        keys.insert(Arc::clone(&key), Key { unconfirmed: 1, gathers: false });
        Some(Unconfirmed { of: Arc::clone(self), key })
    }

    /// Messages of this key gather from now on, and `changed` is told when nothing of the key is unconfirmed any more.
    /// False if nothing is.
    pub(crate) fn gather(&self, key: &str) -> bool {
        self.keys().get_mut(key).map(|key| key.gathers = true).is_some()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys().contains_key(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Arc<str>, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        let mut keys = self.of.keys();
        let Some(key) = keys.get_mut(&self.key) else { return };
        key.unconfirmed -= 1;
        if key.unconfirmed == 0 {
            let gathers = key.gathers;
            keys.remove(&self.key);
            drop(keys);
            if gathers {
                self.of.changed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn of_each_key_only_the_first_goes_alone_until_all_of_it_is_confirmed() {
        let changed = Arc::new(Notify::new());
        let keys = UnconfirmedKeys::new(Arc::clone(&changed));
        let told = || changed.notified().now_or_never().is_some();
        let first = keys.begin_first("a").unwrap();
        assert!(keys.begin_first("a").is_none());
        assert!(keys.begin_first("b").is_some(), "another key");
        assert!(!keys.gather("b") && keys.gather("a"));
        let second = keys.begin(&"a".into());
        drop(first);
        assert!(keys.has("a") && !told());
        drop(second);
        assert!(!keys.has("a") && told());
        drop(keys.begin_first("a").unwrap());
        assert!(!told(), "nothing gathers for it");
        assert!(keys.keys().is_empty());
    }
}
