//! The keys by which a store of handled messages knows a message.

use std::borrow::Cow;

use fluffle_wire::headers;

use crate::consume::message::{item::item_id, received::Received};

/// The key of a message in the store. `None` for a message without an id, because two of those cannot be told apart.
///
/// A deliberate replay has a key of its own: a dead letter that was put back, or a message sent with a replay id.
pub(crate) fn key(received: &Received) -> Option<String> {
    Some(key_of(received, received.message_id()?))
}

/// The keys of items of a batch. An item that comes again by itself, as a retry, has the same key.
pub(crate) struct ItemKeys {
    /// The key of the batch, if it were no replay.
    pub(crate) batch: String,
    replay: Option<String>,
    pub(crate) items: Vec<u32>,
}

impl ItemKeys {
    /// `None` for a batch without an id.
    pub(crate) fn of(received: &Received, items: impl Iterator<Item = usize>) -> Option<Self> {
        let batch = key_of_original(received, received.message_id()?);
        let replay = replay(received).map(Cow::into_owned);
        Some(Self { batch, replay, items: items.filter_map(|item| item.try_into().ok()).collect() })
    }

    /// All keys, if they are not simply `<batch>/<item>`.
    pub(crate) fn of_replay(&self) -> Option<Vec<String>> {
        let replay = self.replay.as_ref()?;
        Some(
            self.items.iter().map(|item| format!("{}{REPLAY}{replay}", item_id(&self.batch, *item as usize))).collect(),
        )
    }
}

/// Stands in a key between a message's id and what distinguishes a replay.
const REPLAY: &str = "/replay/";

fn key_of(received: &Received, id: &str) -> String {
    let mut key = key_of_original(received, id);
    if let Some(replay) = replay(received) {
        key.extend([REPLAY, &*replay]);
    }
    key
}

fn key_of_original(received: &Received, id: &str) -> String {
    // The length comes first because a queue's name may itself contain the separator.
    format!("{}:{}/{id}", received.queue.len(), received.queue)
}

/// What distinguishes a message that is sent again on purpose from its original: the id of its replay, or that it is a
/// dead letter that was put back, or both.
pub(crate) fn replay(received: &Received) -> Option<Cow<'_, str>> {
    let replay = received.header(headers::REPLAY).and_then(|header| header.text());
    match (replay, received.header(headers::REASON)) {
        (replay, None) => replay.map(Cow::Borrowed),
        (None, Some(_)) => Some(Cow::Borrowed("dead")),
        (Some(replay), Some(_)) => Some(Cow::Owned(format!("{replay}/dead"))),
    }
}
