//! What a delivery is remembered by.

use fluffle_amqp::Delivery;
use fluffle_wire::headers::REPLAY;

/// The id to give to `seen::insert`: the message's own and, of a message that is sent again on purpose, the replay's too.
/// `None` for a message without an id, which cannot be told from another.
pub fn key<T, R>(delivery: &Delivery<T, R>) -> Option<String> {
    let id = delivery.message_id()?;
    Some(match delivery.header(REPLAY) {
        Some(replay) => format!("{id}/replay/{replay}"),
        None => id.to_owned(),
    })
}
