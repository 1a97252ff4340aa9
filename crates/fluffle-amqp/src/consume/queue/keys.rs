//! What order is kept by: the key of a message, as the application reads it from the decoded message.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use fluffle_wire::{DecodeError, Wire};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::envelope::Contents, handler::adapter, message::received::Received, queue::handler_queue::Outcome,
    },
};

/// Reads the keys of deliveries, their message type forgotten. What has none has its outcome already.
pub(crate) trait Keys: Send + Sync {
    /// What is in a batch; `None` when it is a message by itself.
    fn open(&self, received: &Received) -> Result<Option<Contents>, Outcome>;

    /// Of a message by itself.
    fn whole(&self, received: &Received) -> Result<u64, Outcome>;

    /// Of an item of a batch.
    fn item(&self, raw: &Bytes) -> Result<u64, Outcome>;
}

/// The key of a message, hashed: keys of one hash are one key.
pub(crate) type KeyOf<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

/// Hashes what `key` reads.
pub(crate) fn hashed<T, K: Hash>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyOf<T> {
    Arc::new(move |message| {
        let mut hasher = DefaultHasher::new();
        key(message).hash(&mut hasher);
        hasher.finish()
    })
}

pub(crate) struct KeysBy<T> {
    pub(crate) wire: Wire<T>,
    pub(crate) key: KeyOf<T>,
}

impl<T> KeysBy<T> {
    /// The application's code runs here, beside other messages of the same handler: a panic is this message's alone.
    fn read(&self, decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<u64, Outcome> {
        match catch_unwind(AssertUnwindSafe(|| decode().map(|message| (self.key)(&message)))) {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(error)) => Err(Outcome::Undecodable(error)),
            Err(_) => Err(Outcome::Failed(Failure::reject("reading its key panicked: see `Consume::ordered_by`"))),
        }
    }
}

impl<T: 'static> Keys for KeysBy<T> {
    fn open(&self, received: &Received) -> Result<Option<Contents>, Outcome> {
        adapter::open(&self.wire, received)
    }

    fn whole(&self, received: &Received) -> Result<u64, Outcome> {
        self.read(|| self.wire.decode(&received.wire()))
    }

    fn item(&self, raw: &Bytes) -> Result<u64, Outcome> {
        self.read(|| self.wire.decode_item(raw))
    }
}
