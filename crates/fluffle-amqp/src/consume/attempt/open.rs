//! Finds out whether a delivery is a batch, and opens it.

use fluffle_wire::Wire;

use crate::consume::{
    attempt::{
        attempt::Attempt,
        contents::Contents,
        outcome::{Outcome, Unusable},
    },
    message::item::has_room_for_items,
};

/// The contents of a batch. `None` if the delivery is a single message. The outcome, if it is a batch that no handler
/// can be given.
pub(crate) fn open<T>(wire: &Wire<T>, attempt: &Attempt) -> Result<Option<Contents>, Outcome> {
    let incoming = attempt.wire();
    if incoming.content_type.is_none_or(|label| label == wire.content_type()) || !incoming.is_batch() {
        return Ok(None);
    }
    let batch = wire.decode_batch(&incoming).map_err(Outcome::Undecodable)?;
    attempt.unpacked(batch.bytes());
    if attempt.wants_reply() {
        return Err(Outcome::Unusable(Unusable::BatchAsksForAnswer));
    }
    let items = batch.raw_items();
    if let Some(id) = attempt.message_id()
        && !has_room_for_items(id, items.len())
    {
        return Err(Outcome::Unusable(Unusable::BatchIdTooLong));
    }
    Ok(Some(Contents::new(items, batch.item_types().clone(), &wire.item_content_type(&incoming))))
}
