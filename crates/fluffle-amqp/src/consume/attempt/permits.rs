//! The permits of one attempt: bytes of the budget, a key lock, and what intake steps lent. Each permit is given back
//! once, when it is no longer needed or when the attempt is dropped.
//!
//! A permit has a reference to what it gives back to (a budget, a set of keys), but never to the handler queue in which
//! its own attempt waits. So no permit keeps that queue alive.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::flow::budget::Budget;

/// The bytes that the handlers of one consumer have in hand, and the handlers that wait for work.
pub(crate) struct InHand {
    pub(crate) bytes: Budget,
    /// Wakes the handlers that wait: a delivery came, or there is room for one again.
    pub(crate) changed: Notify,
}

impl InHand {
    pub(crate) fn new(most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes: Budget::new(most_bytes), changed: Notify::new() })
    }
}

/// Hands out keys, to one attempt at a time for each key.
pub(crate) trait Keys: Send + Sync {
    /// Lets the next delivery of `key` be handed out.
    fn free(&self, key: u64);
}

/// A locked key. No other message of the key is handed out until this is dropped.
pub(crate) struct KeyLock {
    keys: Weak<dyn Keys>,
    key: u64,
}

impl KeyLock {
    pub(crate) fn new(keys: Weak<dyn Keys>, key: u64) -> Self {
        Self { keys, key }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        if let Some(keys) = self.keys.upgrade() {
            keys.free(self.key);
        }
    }
}

/// What an intake step has lent to an attempt. Dropping it gives it back.
pub(crate) type Lent = Box<dyn Send + Sync>;

#[derive(Default)]
struct Borrowed {
    bytes: u64,
    in_hand: Option<Arc<InHand>>,
    key: Option<KeyLock>,
    lent: Vec<Lent>,
}

/// The permits of one attempt.
#[derive(Default)]
pub(crate) struct Permits(Mutex<Borrowed>);

impl Permits {
    /// Takes the attempt's bytes, even if the budget has no room. The handler queue checks for room before it hands out
    /// a delivery.
    pub(crate) fn take_bytes(&self, in_hand: &Arc<InHand>, bytes: u64) {
        in_hand.bytes.take(bytes);
        let mut borrowed = self.borrowed();
        borrowed.bytes += bytes;
        borrowed.in_hand.get_or_insert_with(|| Arc::clone(in_hand));
    }

    /// Takes more bytes, which become known only when a body is unpacked. Without effect if the bytes were given back
    /// already.
    pub(crate) fn take_more_bytes(&self, bytes: u64) {
        let mut borrowed = self.borrowed();
        if let Some(in_hand) = &borrowed.in_hand {
            in_hand.bytes.take(bytes);
            borrowed.bytes += bytes;
        }
    }

    pub(crate) fn take_key(&self, lock: KeyLock) {
        self.borrowed().key = Some(lock);
    }

    pub(crate) fn lend(&self, lent: Lent) {
        self.borrowed().lent.push(lent);
    }

    /// The key that the attempt has locked.
    pub(crate) fn key(&self) -> Option<u64> {
        self.borrowed().key.as_ref().map(|lock| lock.key)
    }

    /// Gives the key back.
    pub(crate) fn free_key(&self) {
        let lock = self.borrowed().key.take();
        // Outside the lock: freeing a key locks the queue of keys.
        drop(lock);
    }

    /// Gives the bytes back.
    pub(crate) fn free_bytes(&self) {
        let mut borrowed = self.borrowed();
        let (bytes, in_hand) = (std::mem::take(&mut borrowed.bytes), borrowed.in_hand.take());
        drop(borrowed);
        give_back(bytes, in_hand.as_deref());
    }

    /// Gives everything back.
    pub(crate) fn give_back(&self) {
        let all = std::mem::take(&mut *self.borrowed());
        give_back(all.bytes, all.in_hand.as_deref());
    }

    /// Moves the key lock and what intake steps lent to the next attempt. The bytes are given back, because between two
    /// attempts no handler has them.
    pub(crate) fn pass_on(&self) -> Self {
        let all = std::mem::take(&mut *self.borrowed());
        give_back(all.bytes, all.in_hand.as_deref());
        Self(Mutex::new(Borrowed { key: all.key, lent: all.lent, ..Borrowed::default() }))
    }

    fn borrowed(&self) -> MutexGuard<'_, Borrowed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_back(bytes: u64, in_hand: Option<&InHand>) {
    if let Some(in_hand) = in_hand
        && in_hand.bytes.give_back(bytes)
    {
        in_hand.changed.notify_waiters();
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let borrowed = self.borrowed();
        let key = borrowed.key.as_ref().map(|lock| lock.key);
        f.debug_struct("Permits").field("bytes", &borrowed.bytes).field("key", &key).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The keys that were freed.
    #[derive(Default)]
    pub(crate) struct Freed(pub(crate) Mutex<Vec<u64>>);

    impl Keys for Freed {
        fn free(&self, key: u64) {
            self.0.lock().unwrap().push(key);
        }
    }

    #[test]
    fn each_permit_is_given_back_once_whoever_gives_it_back() {
        let (in_hand, freed) = (InHand::new(10), Arc::new(Freed::default()));
        let keys = Arc::downgrade(&freed);
        let lent = Arc::new(());
        let permits = Permits::default();
        permits.take_bytes(&in_hand, 8);
        permits.take_key(KeyLock::new(keys, 7));
        permits.lend(Box::new(Arc::clone(&lent)));
        permits.free_key();
        assert_eq!(*freed.0.lock().unwrap(), [7], "at once");
        permits.free_key();
        permits.give_back();
        drop(permits);
        assert_eq!(*freed.0.lock().unwrap(), [7]);
        assert!(in_hand.bytes.fits(10), "none of the 8 bytes is in hand");
        assert_eq!(Arc::strong_count(&lent), 1);
    }

    #[test]
    fn the_next_attempt_keeps_the_key_and_what_intake_lent_but_not_the_bytes() {
        let (in_hand, freed) = (InHand::new(10), Arc::new(Freed::default()));
        let keys = Arc::downgrade(&freed);
        let lent = Arc::new(());
        let first = Permits::default();
        first.take_bytes(&in_hand, 8);
        first.take_key(KeyLock::new(keys, 7));
        first.lend(Box::new(Arc::clone(&lent)));
        let second = first.pass_on();
        drop(first);
        assert!(in_hand.bytes.fits(10));
        assert!(freed.0.lock().unwrap().is_empty());
        assert_eq!((second.key(), Arc::strong_count(&lent)), (Some(7), 2));
        drop(second);
        assert_eq!((freed.0.lock().unwrap().len(), Arc::strong_count(&lent)), (1, 1));
    }

    #[test]
    fn bytes_that_become_known_after_the_end_are_not_counted() {
        let in_hand = InHand::new(10);
        let permits = Permits::default();
        permits.take_bytes(&in_hand, 4);
        permits.free_bytes();
        permits.take_more_bytes(100);
        assert!(in_hand.bytes.fits(10));
    }
}
