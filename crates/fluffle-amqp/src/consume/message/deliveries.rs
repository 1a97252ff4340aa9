//! How often a message has been handed out in vain, as far as that can be believed, and how much of it is charged to
//! the message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use lapin::{message::Delivery, types::AMQPValue};

use crate::{link::connection::ConnectionShared, topology::QueueKind};

/// The header in which a quorum queue counts how often it has handed a message out before without it being settled
/// (RabbitMQ, "Quorum Queues", poison message handling).
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Past so many deliveries in vain RabbitMQ 4 drops a message, or dead-letters it, by itself, whatever they were in
/// vain for.
const BROKERS_LIMIT: u32 = 20;

/// How often a message has been handed out in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InVain {
    /// By the count of its queue.
    counted: u32,
    /// Of these, without the connections that were lost while this process lived: a lost connection charges nobody.
    charged: u32,
}

impl InVain {
    #[cfg(test)]
    pub(crate) fn times(charged: u32) -> Self {
        Self { counted: charged, charged }
    }

    /// All of them.
    pub(crate) fn counted(self) -> u32 {
        self.counted
    }

    /// Deliveries that may have ended a process.
    pub(crate) fn charged(self) -> u32 {
        self.charged
    }

    /// Whether the message has used up `limit` deliveries, or is about to use up the broker's own limit.
    pub(crate) fn is_past(self, limit: u32) -> bool {
        self.charged >= limit || self.counted >= limit.max(BROKERS_LIMIT)
    }
}

/// Reads the count of the messages of one queue, over all its channels.
pub(crate) struct Deliveries {
    connection: Arc<ConnectionShared>,
    /// Whether its queue counts. `false` once it is known that it does not.
    counts: AtomicBool,
}

impl Deliveries {
    /// For a queue of this kind, if the application's topology says; consumed from on `connection`.
    pub(crate) fn new(kind: Option<QueueKind>, connection: Arc<ConnectionShared>) -> Self {
        Self { connection, counts: AtomicBool::new(kind.is_none_or(|kind| kind == QueueKind::Quorum)) }
    }

    /// The same queue's, on another connection. What the one before was lost for stays uncharged.
    pub(crate) fn on(&self, connection: Arc<ConnectionShared>) -> Self {
        connection.losses_before(&self.connection);
        Self { connection, counts: AtomicBool::new(self.counts.load(Relaxed)) }
    }

    /// Any client may send the header, and a queue that does not count leaves it as it is. So the count is believed
    /// where only the broker can have written it: on a delivery that comes again, from a queue that counts, as
    /// RabbitMQ's 64-bit integer.
    pub(crate) fn of(&self, delivery: &Delivery) -> InVain {
        if !delivery.redelivered {
            return InVain::default();
        }
        let headers = delivery.properties.headers().as_ref();
        let count = match headers.and_then(|headers| headers.inner().get(DELIVERY_COUNT)) {
            Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
            Some(_) => 0,
            None => {
                // A queue that counts says so on whatever comes again.
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
        assert_eq!(unknown.of(&delivery(true, count(7))).charged(), 0, "somebody else wrote that");
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
        assert_eq!(in_vain.charged(), 2, "what others did with it is charged");
        assert!(quorum.of(&delivery(true, count(20))).is_past(6), "or the broker drops it the next time");
    }
}
