//! Reads the keys of deliveries, if order is kept by key.

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

/// Reads keys, independent of the type of the messages. If the key of a delivery cannot be read, the error is the
/// delivery's outcome.
pub(crate) trait ReadKey: Send + Sync {
    /// The contents of a batch; `None` for a single message.
    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome>;

    /// The key of a single message.
    fn of_message(&self, attempt: &Attempt) -> Result<u64, Outcome>;

    /// The key of an item of a batch.
    fn of_item(&self, attempt: &Attempt, index: usize, raw: &Bytes) -> Result<u64, Outcome>;
}

/// Decodes a message to read its key.
pub(crate) struct DecodeKey<T> {
    pub(crate) wire: Wire<T>,
    pub(crate) key: KeyOf<T>,
}

impl<T> DecodeKey<T> {
    /// Decodes a message and reads its key. The panic of the application's function is caught, so that it affects only
    /// this message and not the other messages of the handler.
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

    fn of_item(&self, attempt: &Attempt, index: usize, raw: &Bytes) -> Result<u64, Outcome> {
        self.read(|| self.wire.decode_item(&attempt.label_of_item(index), raw))
    }
}
