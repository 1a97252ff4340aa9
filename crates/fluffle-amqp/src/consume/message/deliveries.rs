//! How often a message was delivered in vain (and not settled), how far that count can be trusted, and how much of it
//! is charged to the message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use lapin::{message::Delivery, types::AMQPValue};

use crate::{
    link::{
        connection_shared::ConnectionShared,
        sanitizer::{self, Peer},
    },
    topology::QueueKind,
};

/// The header in which a quorum queue counts how often it delivered a message that was then not settled (RabbitMQ,
/// "Quorum Queues", poison message handling).
const DELIVERY_COUNT: &str = "x-delivery-count";

/// The default limit of RabbitMQ 4. After this many deliveries in vain, for whatever cause, the broker itself drops or
/// dead-letters a message.
const BROKERS_LIMIT: u32 = 20;

/// How often a message was delivered before and not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InVain {
    /// The count of its queue.
    counted: u32,
    /// The count without recent losses of this connection, which are not the message's fault.
    charged: u32,
}

impl InVain {
    #[cfg(test)]
    pub(crate) fn times(charged: u32) -> Self {
        Self { counted: charged, charged }
    }

    /// All deliveries in vain.
    pub(crate) fn counted(self) -> u32 {
        self.counted
    }

    /// The deliveries in vain that may be the message's fault.
    pub(crate) fn charged(self) -> u32 {
        self.charged
    }

    /// Whether the message must not be handled again: its charged deliveries have reached `limit`, or all its
    /// deliveries in vain have reached the broker's own limit (or `limit`, if that is higher).
    pub(crate) fn is_past(self, limit: u32) -> bool {
        self.charged >= limit || self.counted >= limit.max(BROKERS_LIMIT)
    }
}

/// Reads the delivery counts of the messages of one queue.
pub(crate) struct Deliveries {
    connection: Arc<ConnectionShared>,
    /// Whether the queue counts deliveries. True if unknown, until a delivery shows that it does not.
    counts: AtomicBool,
}

impl Deliveries {
    /// For a queue that is consumed from on `connection`. `kind` is its kind, if the application declares it.
    pub(crate) fn new(kind: Option<QueueKind>, connection: Arc<ConnectionShared>) -> Self {
        Self { connection, counts: AtomicBool::new(kind.is_none_or(|kind| kind == QueueKind::Quorum)) }
    }

    /// For the same queue on another connection. The losses of the old connection still do not count against messages.
    pub(crate) fn on(&self, connection: Arc<ConnectionShared>) -> Self {
        connection.losses_before(&self.connection);
        Self { connection, counts: AtomicBool::new(self.counts.load(Relaxed)) }
    }

    /// What the broker of the connection says of itself.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.connection.standing.peer()
    }

    /// The deliveries in vain of a message. Any client may send the header, and a queue that does not count leaves it
    /// as it is. The count is therefore trusted only where the broker must have written it: on a redelivery, from a
    /// queue that counts, as the 64-bit integer that RabbitMQ uses.
    pub(crate) fn of(&self, delivery: &Delivery) -> InVain {
        if !delivery.redelivered {
            return InVain::default();
        }
        let headers = delivery.properties.headers().as_ref();
        let count = match headers.and_then(|headers| headers.inner().get(DELIVERY_COUNT)) {
            Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
            Some(_) => 0,
            // Its headers could not be read, and the count was among them.
            None if sanitizer::taken(&delivery.properties).is_some() => 0,
            None => {
                // A queue that counts puts the header on every redelivery.
                self.counts.store(false, Relaxed);
                0
            }
        };
        let counted = if self.counts.load(Relaxed) { count } else { 0 };
        InVain { counted, charged: counted.saturating_sub(self.connection.losses()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::connection::tests::shared;
    use lapin::{BasicProperties, types::FieldTable};

    fn delivery(redelivered: bool, count: Option<AMQPValue>) -> Delivery {
        let mut delivery = Delivery::mock(1, "".into(), "q".into(), redelivered, Vec::new());
        let mut headers = FieldTable::default();
        if let Some(count) = count {
            headers.insert(DELIVERY_COUNT.into(), count);
        }
        delivery.properties = BasicProperties::default().with_headers(headers);
        delivery
    }

    fn count(count: i64) -> Option<AMQPValue> {
        Some(AMQPValue::LongLongInt(count))
    }

    fn queue(kind: Option<QueueKind>) -> Deliveries {
        Deliveries::new(kind, shared())
    }

    #[test]
    fn a_count_is_believed_where_only_the_broker_can_have_written_it() {
        let quorum = queue(Some(QueueKind::Quorum));
        assert_eq!(quorum.of(&delivery(true, count(7))).charged(), 7);
        assert_eq!(quorum.of(&delivery(false, count(19))).charged(), 0, "a first delivery");
        for nonsense in
            [count(-1), count(i64::MAX), Some(AMQPValue::LongString("19".into())), Some(AMQPValue::LongUInt(19))]
        {
            assert_eq!(quorum.of(&delivery(true, nonsense)).charged(), 0);
        }
        let classic = queue(Some(QueueKind::Classic));
        assert_eq!(classic.of(&delivery(true, count(19))).charged(), 0, "a classic queue counts nothing");
    }

    #[test]
    fn a_queue_that_nobody_knows_counts_until_it_is_seen_not_to() {
        let unknown = queue(None);
        assert_eq!(unknown.of(&delivery(true, count(7))).charged(), 7);
        assert_eq!(unknown.of(&delivery(true, None)).charged(), 0);
        assert_eq!(unknown.of(&delivery(true, count(7))).charged(), 0, "a sender wrote this count");
    }

    #[test]
    fn a_message_whose_headers_cannot_be_read_does_not_say_that_its_queue_counts_nothing() {
        let quorum = queue(Some(QueueKind::Quorum));
        let mut unreadable = delivery(true, None);
        let mut headers = FieldTable::default();
        sanitizer::mark(&mut headers);
        unreadable.properties = BasicProperties::default().with_headers(headers);
        assert_eq!(quorum.of(&unreadable).charged(), 0);
        assert_eq!(quorum.of(&delivery(true, count(7))).charged(), 7, "the message behind it is charged as before");
    }

    #[test]
    fn a_lost_connection_charges_nobody() {
        let connection = shared();
        let quorum = Deliveries::new(Some(QueueKind::Quorum), Arc::clone(&connection));
        for lost in 1..=12 {
            connection.lost();
            let in_vain = quorum.of(&delivery(true, count(lost)));
            assert_eq!(in_vain.charged(), 0);
            assert!(!in_vain.is_past(6));
        }
        let in_vain = quorum.of(&delivery(true, count(14)));
        assert_eq!(in_vain.charged(), 2, "deliveries beyond the 12 losses are charged");
        assert!(quorum.of(&delivery(true, count(20))).is_past(6), "the broker would drop it the next time");
    }
}
