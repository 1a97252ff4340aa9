//! The key by which order is kept. The application reads it from the decoded message.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Reads the key of a message and hashes it. Keys with the same hash are one key.
pub(crate) type KeyOf<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

/// A [`KeyOf`] that hashes the key that `key` reads.
pub(crate) fn hashed<T, K: Hash>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyOf<T> {
    Arc::new(move |message| {
        let mut hasher = DefaultHasher::new();
        key(message).hash(&mut hasher);
        hasher.finish()
    })
}
