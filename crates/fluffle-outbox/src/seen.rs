//! The key by which a delivery is recorded as handled.

use fluffle_amqp::Delivery;
use fluffle_wire::headers::REPLAY;

/// The id to pass to `seen::insert`: the message's own id. If the message was sent again on purpose, the id of the
/// replay is added. `None` for a message without an id, which cannot be distinguished from others.
pub fn key<T, R>(delivery: &Delivery<T, R>) -> Option<String> {
    let id = delivery.message_id()?;
    Some(match delivery.header(REPLAY) {
        Some(replay) => format!("{id}/replay/{replay}"),
        None => id.to_owned(),
    })
}
