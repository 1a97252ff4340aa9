//! A dead letter, as this command sees it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fluffle::amqp::{DeadLetter, bare};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use sha2::{Digest, Sha256};

use crate::dlq::shape::shape;

/// A letter, with the tag under which it was taken.
pub(crate) struct Letter {
    pub(crate) tag: u64,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) dead: DeadLetter,
    /// What could not be read of it when it was written to the file that it was read from.
    pub(crate) unreadable_in_file: Option<String>,
}

/// What letters of one cause have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) type_name: String,
    pub(crate) origin: String,
}

/// Headers that a broker changes each time that it hands a message out.
const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

impl Letter {
    pub(crate) fn new(queue: &Arc<str>, delivery: Delivery) -> Self {
        Self {
            tag: delivery.delivery_tag,
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            dead: bare::dead_letter(queue, delivery),
            unreadable_in_file: None,
        }
    }

    pub(crate) fn properties(&self) -> &BasicProperties {
        bare::properties(&self.dead)
    }

    pub(crate) fn headers(&self) -> Option<&FieldTable> {
        self.properties().headers().as_ref()
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.dead.message_id()
    }

    /// What could not be read of it. A copy would be another message.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.dead.unreadable().or(self.unreadable_in_file.as_deref())
    }

    /// Why it died: Fluffle's reason, else the broker's.
    pub(crate) fn reason(&self) -> &str {
        match (self.dead.info(), self.dead.last_death()) {
            (Some(info), _) => info.reason.as_str(),
            (None, Some(death)) => death.reason,
            (None, None) => self.dead.header("x-first-death-reason").unwrap_or("unknown"),
        }
    }

    /// The last error, which only Fluffle's letters have.
    pub(crate) fn error(&self) -> &str {
        self.dead.info().map_or("", |info| &info.error)
    }

    pub(crate) fn attempts(&self) -> Option<u32> {
        self.dead.info().map(|info| info.attempts.get())
    }

    /// The time that its age counts from: its last death by the broker's word, else its first delivery by Fluffle's,
    /// else its timestamp.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        let died = self.dead.last_death().and_then(|death| death.at);
        let seen = self.dead.info().map(|info| info.origin.first_seen);
        let sent = self.properties().timestamp().map(Duration::from_secs);
        died.or(seen).or_else(|| UNIX_EPOCH.checked_add(sent?))
    }

    /// How often a quorum queue has handed it out; `None` on the first time, and on other queues.
    pub(crate) fn delivery_count(&self) -> Option<u64> {
        match *self.headers()?.inner().get(COUNTS[0])? {
            AMQPValue::ShortShortInt(n) => u64::try_from(n).ok(),
            AMQPValue::ShortShortUInt(n) => Some(n.into()),
            AMQPValue::ShortInt(n) => u64::try_from(n).ok(),
            AMQPValue::ShortUInt(n) => Some(n.into()),
            AMQPValue::LongInt(n) => u64::try_from(n).ok(),
            AMQPValue::LongUInt(n) => Some(n.into()),
            AMQPValue::LongLongInt(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause {
            reason: self.reason().to_owned(),
            error: shape(self.error()),
            type_name: self.dead.type_name().unwrap_or("-").to_owned(),
            origin: self.dead.origin_queue().unwrap_or("-").to_owned(),
        }
    }

    /// 128 bits that differ for two letters unless all that was sent of them is the same.
    pub(crate) fn fingerprint(&self) -> String {
        let mut properties = self.properties().clone();
        if let Some(headers) = properties.headers() {
            let mut without = FieldTable::default();
            for (name, value) in headers.inner().iter().filter(|(name, _)| !COUNTS.contains(&name.as_str())) {
                without.insert(name.clone(), value.clone());
            }
            properties = properties.with_headers(without);
        }
        let mut hash = Sha256::new();
        // Debug is a complete text of all properties, and a table's names are in order.
        hash.update(format!("{properties:?}").as_bytes());
        hash.update([0]);
        hash.update(self.dead.body());
        hex(&hash.finalize()[..16])
    }
}

impl Cause {
    /// Eight characters that stand for this cause, for `--group`.
    pub(crate) fn key(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.reason, &self.error, &self.type_name, &self.origin] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize()[..4])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
