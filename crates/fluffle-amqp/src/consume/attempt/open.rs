//! Opens a delivery: is it a batch, and what is in it?

use fluffle_wire::Wire;

use crate::consume::{
    attempt::{
        attempt::Attempt,
        contents::Contents,
        outcome::{Outcome, Unusable},
    },
    message::item::has_room_for_items,
};

/// What is in a batch; `None` for a message by itself. A batch that no handler can be given has its outcome already.
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
    Ok(Some(Contents::new(items, wire.content_type())))
}
