//! Reads the keys of deliveries, where order is kept by key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fluffle_wire::{DecodeError, Wire};

use crate::consume::{
    attempt::{
        attempt::Attempt,
        contents::Contents,
        open,
        outcome::{Outcome, Unusable},
    },
    spec::key::KeyOf,
};

/// Reads keys, without the type of the messages. A delivery whose key cannot be read has its outcome already.
pub(crate) trait ReadKey: Send + Sync {
    /// What is in a batch; `None` for a message by itself.
    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome>;

    /// The key of a message by itself.
    fn of_message(&self, attempt: &Attempt) -> Result<u64, Outcome>;

    /// The key of an item of a batch.
    fn of_item(&self, raw: &Bytes) -> Result<u64, Outcome>;
}

/// Decodes a message to read its key.
pub(crate) struct DecodeKey<T> {
    pub(crate) wire: Wire<T>,
    pub(crate) key: KeyOf<T>,
}

impl<T> DecodeKey<T> {
    /// Runs the application's code, beside other messages of the same handler: a panic concerns this message alone.
    fn read(&self, decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<u64, Outcome> {
        match catch_unwind(AssertUnwindSafe(|| decode().map(|message| (self.key)(&message)))) {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(error)) => Err(Outcome::Undecodable(error)),
            Err(_) => Err(Outcome::Unusable(Unusable::KeyPanicked)),
        }
    }
}

impl<T: 'static> ReadKey for DecodeKey<T> {
    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome> {
        open::open(&self.wire, attempt)
    }

    fn of_message(&self, attempt: &Attempt) -> Result<u64, Outcome> {
        self.read(|| self.wire.decode(&attempt.wire()))
    }

    fn of_item(&self, raw: &Bytes) -> Result<u64, Outcome> {
        self.read(|| self.wire.decode_item(raw))
    }
}
