//! A dead letter, as a replay looks at it.

use bytes::Bytes;
use fluffle_wire::headers::{self, DeadLetterInfo};
use lapin::types::{AMQPValue, FieldTable};

use crate::{
    consume::{copy, received::Received},
    publish::message::Prepared,
};

/// A message in a dead-letter queue.
pub struct DeadLetter {
    received: Received,
    info: Option<DeadLetterInfo>,
}

impl DeadLetter {
    pub(super) fn new(received: Received) -> Self {
        let info = DeadLetterInfo::read(|name| received.header(name).and_then(|header| header.value()));
        Self { received, info }
    }

    /// Why it died, after how many attempts, when it was first seen and where it came from; `None` if it was not Fluffle
    /// that put it here.
    pub fn info(&self) -> Option<&DeadLetterInfo> {
        self.info.as_ref()
    }

    /// Its id.
    pub fn message_id(&self) -> Option<&str> {
        self.received.message_id()
    }

    /// The full name of its Protobuf message (AMQP `type`), if it has one.
    pub fn type_name(&self) -> Option<&str> {
        self.received.wire().type_name
    }

    /// The encoded body.
    pub fn body(&self) -> &Bytes {
        &self.received.body
    }

    /// A header that holds text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.received.header(name).and_then(|header| header.text())
    }

    /// The queue it was consumed from: as Fluffle, or else the broker's own dead-lettering (`x-first-death-queue`), says.
    pub fn origin_queue(&self) -> Option<&str> {
        match &self.info {
            Some(info) => Some(&info.origin.queue),
            None => self.header("x-first-death-queue"),
        }
    }

    pub(super) fn tag(&self) -> u64 {
        self.received.tag
    }

    /// A fresh message from it, for `queue`.
    pub(super) fn replayed(&self, queue: &str, replay: &str) -> Prepared {
        let mut table = FieldTable::default();
        for (name, value) in self.received.headers().into_iter().flat_map(|table| table.inner()) {
            if !copy::tells_of_the_past(name.as_str()) {
                table.insert(name.clone(), value.clone());
            }
        }
        table.insert(headers::REPLAY.into(), AMQPValue::LongString(replay.into()));
        copy::send(&self.received, queue, table)
    }
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter").field("message_id", &self.message_id()).field("info", &self.info).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::received::tests::{received, received_with};
    use fluffle_wire::headers::Reason;
    use lapin::BasicProperties;

    #[test]
    fn a_replayed_letter_is_a_fresh_message_under_its_old_id() {
        let mut original = received(3);
        original.properties = original.properties.clone().with_message_id("m1".into()).with_type("t".into());
        let dead = copy::dead_letter(&original, "q.dead", &Reason::Rejected, "never");
        let letter = DeadLetter::new(received_with(3, dead.amqp_properties()));
        assert_eq!(letter.info().unwrap().attempts.get(), 3);
        assert_eq!(letter.origin_queue(), Some("q"));

        let again = letter.replayed("q", "monday");
        assert_eq!((again.id(), again.exchange(), again.routing_key(), again.mandatory), ("m1", "", "q", true));
        let properties = again.amqp_properties();
        let names: Vec<_> = properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, [headers::REPLAY], "nothing tells of its past");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "t");
    }

    #[test]
    fn a_letter_of_the_brokers_own_says_where_it_came_from() {
        let mut table = FieldTable::default();
        table.insert("x-first-death-queue".into(), AMQPValue::LongString("orders".into()));
        table.insert("mine".into(), AMQPValue::LongString("kept".into()));
        let letter = DeadLetter::new(received_with(1, BasicProperties::default().with_headers(table)));
        assert!(letter.info().is_none());
        assert_eq!(letter.origin_queue(), Some("orders"));
        let again = letter.replayed("orders", "monday");
        let properties = again.amqp_properties();
        let table = properties.headers().as_ref().unwrap();
        assert!(table.inner().contains_key("mine") && !table.inner().contains_key("x-first-death-queue"));
    }

    #[test]
    fn a_letter_from_nowhere_has_no_origin() {
        let letter = DeadLetter::new(received_with(1, BasicProperties::default()));
        assert_eq!((letter.origin_queue(), letter.header("any")), (None, None));
    }
}
