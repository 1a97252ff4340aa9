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
pub(crate) fn item_keys(received: &Received, items: impl Iterator<Item = usize>) -> Vec<String> {
    let Some(id) = received.message_id() else { return Vec::new() };
    items.map(|index| key_of(received, &item_id(id, index))).collect()
}

fn key_of(received: &Received, id: &str) -> String {
    // The length comes first because a queue's name may itself contain the separator.
    let mut key = format!("{}:{}/{id}", received.queue.len(), received.queue);
    if let Some(replay) = replay(received) {
        key.extend(["/replay/", &*replay]);
    }
    key
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
