//! A dead letter, as a replay sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fluffle_wire::headers::{self, DeadLetterInfo};
use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use crate::{
    base::requests::{DIRECT_REPLY_TO, Requests},
    consume::{
        message::{deliveries::InVain, received::Received},
        settle::copy,
    },
    publish::message::{Prepared, PreparedError, properties_from_bytes, properties_to_bytes},
};

/// A message in a dead-letter queue.
pub struct DeadLetter {
    received: Received,
    info: Option<DeadLetterInfo>,
}

impl DeadLetter {
    pub(crate) fn new(received: Received) -> Self {
        let info = DeadLetterInfo::read(|name| received.header(name).and_then(|header| header.value()));
        Self { received, info }
    }

    /// Why the message died, after how many attempts, when it was first seen and which queue it came from. `None` if
    /// another program, or the broker, put it into the queue.
    pub fn info(&self) -> Option<&DeadLetterInfo> {
        self.info.as_ref()
    }

    /// The message's id.
    pub fn message_id(&self) -> Option<&str> {
        self.received.message_id()
    }

    /// The full name of the Protobuf message in the body (AMQP `type`), if there is one.
    pub fn type_name(&self) -> Option<&str> {
        self.received.wire().type_name
    }

    /// The encoded body.
    pub fn body(&self) -> &Bytes {
        &self.received.body
    }

    /// The value of a header that holds text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.received.header(name).and_then(|header| header.text())
    }

    /// The queue that the message died in last. Fluffle's headers say so. If they are missing, or the broker has
    /// dead-lettered the message later than they say, the broker's do: the first entry of `x-death`, or
    /// `x-first-death-queue`.
    ///
    /// `None` also if the name cannot be that of a queue: an empty name, one of more than 255 bytes, or an address of
    /// direct reply-to.
    pub fn origin_queue(&self) -> Option<&str> {
        self.named_queue().filter(|name| (1..=255).contains(&name.len()) && !name.starts_with(DIRECT_REPLY_TO))
    }

    fn named_queue(&self) -> Option<&str> {
        let last = self.received.headers().and_then(Death::last);
        match (&self.info, last) {
            (Some(info), Some(death)) if death.ended_the_message() && death.is_after(info.origin.first_seen) => {
                Some(death.queue)
            }
            (Some(info), _) => Some(&info.origin.queue),
            (None, Some(death)) => Some(death.queue),
            (None, None) => self.header("x-first-death-queue"),
        }
    }

    /// Which part of the message the client cannot read, and why. A copy of such a letter would be another message, so
    /// that a replay leaves it where it is.
    pub fn unreadable(&self) -> Option<&str> {
        self.received.unreadable.as_deref()
    }

    /// Why and when the broker dead-lettered the message last: the first entry of `x-death`. `None` if it never did, as
    /// with the dead letters that Fluffle makes.
    pub fn last_death(&self) -> Option<BrokerDeath<'_>> {
        self.received.headers().and_then(Death::last).map(|death| BrokerDeath {
            queue: death.queue,
            reason: death.reason,
            at: (death.time > 0).then(|| UNIX_EPOCH.checked_add(Duration::from_secs(death.time))).flatten(),
        })
    }

    /// The properties as AMQP writes them in a content header (AMQP 0-9-1, section 4.2.6.1), with all headers and their
    /// types.
    ///
    /// # Errors
    /// If a property is longer than AMQP allows.
    pub fn properties_bytes(&self) -> Result<Bytes, PreparedError> {
        properties_to_bytes(&self.received.properties).map(Bytes::from)
    }

    /// The letter that was taken from `queue` at some earlier time, from its
    /// [`properties_bytes`](Self::properties_bytes) and its body.
    ///
    /// ```
    /// use fluffle_amqp::DeadLetter;
    ///
    /// // No property at all.
    /// let letter = DeadLetter::from_bytes("orders.dead", &[0, 0], "seven".into())?;
    /// assert_eq!((letter.message_id(), letter.origin_queue()), (None, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the properties are malformed.
    pub fn from_bytes(queue: &str, properties: &[u8], body: Bytes) -> Result<Self, PreparedError> {
        let mut delivery = Delivery::mock(0, "".into(), "".into(), true, body.into());
        delivery.properties = properties_from_bytes(properties)?;
        Ok(Self::new(Received::new(&queue.into(), 0, InVain::default(), Requests::default(), delivery)))
    }

    #[cfg(feature = "bare")]
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    pub(super) fn tag(&self) -> u64 {
        self.received.tag
    }

    /// A fresh message for `queue`, with the body and the properties of this letter, without the headers that tell of
    /// its past, and with the header `x-fluffle-replay`, which holds `replay`, at most 255 bytes. This is what a
    /// [`Replay`](crate::Replay) publishes.
    ///
    /// A letter without a message id gets a new one.
    ///
    /// ```
    /// use fluffle_amqp::DeadLetter;
    ///
    /// let letter = DeadLetter::from_bytes("orders.dead", &[0, 0], "seven".into())?;
    /// let copy = letter.replayed("orders", "monday");
    /// assert_eq!((copy.exchange(), copy.routing_key()), ("", "orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replayed(&self, queue: &str, replay: &str) -> Prepared {
        let mut table = FieldTable::default();
        for (name, value) in self.received.headers().into_iter().flat_map(|table| table.inner()) {
            // A copy of a shortened header is a shortened header too.
            if name.as_str() == headers::SHORTENED || !copy::tells_of_the_past(name.as_str()) {
                table.insert(name.clone(), value.clone());
            }
        }
        table.insert(headers::REPLAY.into(), AMQPValue::LongString(replay.into()));
        copy::send(&self.received, queue, table)
    }
}

/// Why the broker dead-lettered a message, from the headers that it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDeath<'a> {
    /// The queue in which the message died.
    pub queue: &'a str,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: &'a str,
    /// When, by the broker's clock, to the second.
    pub at: Option<SystemTime>,
}

/// One entry of `x-death`, in which the broker says why it dead-lettered a message (RabbitMQ, "Dead Letter Exchanges").
struct Death<'a> {
    queue: &'a str,
    reason: &'a str,
    /// Seconds since 1970, by the broker's clock.
    time: u64,
}

impl<'a> Death<'a> {
    /// The last death, which the broker puts first.
    fn last(headers: &'a FieldTable) -> Option<Self> {
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return None };
        let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else { return None };
        let text = |name| match death.inner().get(name) {
            Some(AMQPValue::LongString(text)) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        };
        let time = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => *seconds,
            _ => 0,
        };
        Some(Self { queue: text("queue")?, reason: text("reason").unwrap_or_default(), time })
    }

    /// Whether a consumer refused the message, or died of it. The other reasons are no end: in a retry queue the
    /// message only waited, and in a full queue it had no room.
    fn ended_the_message(&self) -> bool {
        matches!(self.reason, "rejected" | "delivery_limit")
    }

    fn is_after(&self, time: SystemTime) -> bool {
        // `x-death` has whole seconds. Within the same second the order is unknown, and Fluffle's own headers count.
        time.duration_since(UNIX_EPOCH).is_ok_and(|since| self.time > since.as_secs())
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
    use crate::consume::message::received::tests::{received, received_with};
    use fluffle_wire::headers::Reason;
    use lapin::BasicProperties;

    /// Without the types of its items, a batch could not be read again.
    const OF_A_BATCH: [&str; 2] = [headers::ITEM_TRACES, headers::ITEM_TYPES];

    #[test]
    fn a_replayed_letter_is_a_fresh_message_under_its_old_id() {
        let mut original = received(3);
        let mut table = original.headers().unwrap().clone();
        for name in OF_A_BATCH {
            table.insert(name.into(), AMQPValue::LongString("2*a 1*b".into()));
        }
        let labelled = original.properties.clone().with_message_id("m1".into()).with_type("t".into());
        original.properties = labelled.with_headers(table);
        let dead = copy::dead_letter(&original, "q.dead", &Reason::Rejected, "never");
        let letter = DeadLetter::new(received_with(3, dead.amqp_properties()));
        assert_eq!(letter.info().unwrap().attempts.get(), 3);
        assert_eq!(letter.origin_queue(), Some("q"));

        let again = letter.replayed("q", "monday");
        assert_eq!((again.id(), again.exchange(), again.routing_key(), again.mandatory), ("m1", "", "q", true));
        let properties = again.amqp_properties();
        let names: Vec<_> = properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, [OF_A_BATCH[0], OF_A_BATCH[1], headers::REPLAY], "nothing tells of its past");
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

    fn death(queue: &str, reason: &str, time: u64) -> AMQPValue {
        let mut table = FieldTable::default();
        table.insert("queue".into(), AMQPValue::LongString(queue.into()));
        table.insert("reason".into(), AMQPValue::LongString(reason.into()));
        table.insert("time".into(), AMQPValue::Timestamp(time));
        AMQPValue::FieldTable(table)
    }

    fn with_deaths(mut table: FieldTable, deaths: Vec<AMQPValue>) -> DeadLetter {
        table.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        DeadLetter::new(received_with(1, BasicProperties::default().with_headers(table)))
    }

    #[test]
    fn a_letter_goes_back_to_the_queue_it_died_in_last() {
        let mut first = FieldTable::default();
        first.insert("x-first-death-queue".into(), AMQPValue::LongString("first".into()));
        let letter = with_deaths(first, vec![death("last", "expired", 2), death("first", "rejected", 1)]);
        assert_eq!(letter.origin_queue(), Some("last"));

        let dead = copy::dead_letter(&received(1), "q.dead", &Reason::Rejected, "never");
        let ours = || dead.amqp_properties().headers().clone().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for (reason, time, queue) in [
            ("rejected", now + 60, "elsewhere"),
            ("delivery_limit", now + 60, "elsewhere"),
            // Before Fluffle saw it.
            ("rejected", now - 60, "q"),
            // On its way through a retry queue, or out of the dead-letter queue.
            ("expired", now + 60, "q"),
        ] {
            assert_eq!(
                with_deaths(ours(), vec![death("elsewhere", reason, time)]).origin_queue(),
                Some(queue),
                "{reason}"
            );
        }
    }

    #[test]
    fn deaths_of_rubbish_are_none() {
        for rubbish in [vec![], vec![AMQPValue::Void], vec![AMQPValue::FieldTable(FieldTable::default())]] {
            assert_eq!(with_deaths(FieldTable::default(), rubbish).origin_queue(), None);
        }
    }

    #[test]
    fn a_letter_is_the_same_after_it_was_bytes() {
        let mut table = FieldTable::default();
        table.insert("small".into(), AMQPValue::ShortInt(-3));
        let before = with_deaths(table, vec![death("orders", "expired", 7)]);
        let after =
            DeadLetter::from_bytes("q.dead", &before.properties_bytes().unwrap(), before.body().clone()).unwrap();
        assert_eq!(after.received.properties, before.received.properties);
        assert_eq!(after.body(), before.body());
        let last = after.last_death().unwrap();
        assert_eq!((last.queue, last.reason), ("orders", "expired"));
        assert_eq!(last.at, UNIX_EPOCH.checked_add(Duration::from_secs(7)));
        assert!(DeadLetter::from_bytes("q.dead", &[0xff], Bytes::new()).is_err());
    }

    #[test]
    fn a_letter_from_nowhere_has_no_origin() {
        let letter = DeadLetter::new(received_with(1, BasicProperties::default()));
        assert_eq!((letter.origin_queue(), letter.header("any")), (None, None));
    }
}
