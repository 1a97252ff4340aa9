//! Which deliveries are requests, and until when somebody waits for their answer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fluffle_wire::headers;
use lapin::BasicProperties;

use crate::consume::received::AmqpHeader;

/// What addresses of direct reply-to begin with (RabbitMQ, "Direct Reply-to").
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How one consumer takes messages that ask for an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    /// Its handlers answer with more than `()`.
    pub(crate) answers: bool,
    /// A request that fails is retried as any message is, instead of being answered with its failure.
    pub(crate) retried: bool,
}

/// A request: somebody waits for what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// When nobody waits any more, if the request says so.
    pub(crate) expires: Option<Instant>,
    /// What fails is retried.
    pub(crate) retried: bool,
}

impl Requests {
    /// A message with a reply address is a request if this consumer gives answers, or if the address is one of direct reply-to,
    /// behind which somebody waits. Any other is work: frameworks put a reply address on every message they send.
    pub(crate) fn of(self, properties: &BasicProperties) -> Option<Request> {
        let reply_to = properties.reply_to().as_ref()?;
        let is_request = self.answers || reply_to.as_str().starts_with(DIRECT_REPLY_TO);
        is_request.then(|| Request { expires: expires(properties), retried: self.retried })
    }
}

impl Request {
    /// Whether nobody waits for an answer that comes after `wait`.
    pub(crate) fn is_over_in(&self, wait: Duration) -> bool {
        self.expires.is_some_and(|expires| Instant::now() + wait >= expires)
    }

    /// The header that keeps the deadline on a copy, in milliseconds since 1970: the broker takes `expiration` away when it
    /// dead-letters a message.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        let deadline = (SystemTime::now() + left).duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(deadline.as_millis()).ok()
    }
}

/// On a copy its header says it. On a first delivery it is no later than `expiration` from now: how long the message lay in its
/// queue nobody tells, and the broker delivers none that expired there.
fn expires(properties: &BasicProperties) -> Option<Instant> {
    let header = properties.headers().as_ref().and_then(|headers| headers.inner().get(headers::DEADLINE));
    let left = match header.and_then(|value| AmqpHeader(value).integer()) {
        Some(deadline) => {
            let deadline = UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(deadline).ok()?))?;
            deadline.duration_since(SystemTime::now()).unwrap_or_default()
        }
        None => Duration::from_millis(properties.expiration().as_ref()?.as_str().parse().ok()?),
    };
    Instant::now().checked_add(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::{AMQPValue, FieldTable};

    fn asking(reply_to: &str) -> BasicProperties {
        BasicProperties::default().with_reply_to(reply_to.into())
    }

    #[test]
    fn a_reply_address_makes_a_request_where_answers_are_given_or_somebody_waits() {
        let (work, answers) = (Requests::default(), Requests { answers: true, retried: false });
        assert!(work.of(&asking("errors")).is_none(), "frameworks put one on every message");
        assert!(answers.of(&asking("errors")).is_some());
        assert!(work.of(&asking("amq.rabbitmq.reply-to.g1h2AA")).is_some());
        assert!(answers.of(&BasicProperties::default()).is_none());
    }

    #[test]
    fn a_request_is_over_at_its_expiration_or_the_deadline_of_its_copy() {
        let requests = Requests { answers: true, retried: true };
        let request = requests.of(&asking("a").with_expiration("60000".into())).unwrap();
        assert!(!request.is_over_in(Duration::ZERO) && request.is_over_in(Duration::from_secs(61)));

        let mut headers = FieldTable::default();
        headers.insert(headers::DEADLINE.into(), AMQPValue::LongLongInt(request.deadline().unwrap()));
        let copy = requests.of(&asking("a").with_headers(headers.clone())).unwrap();
        assert!(!copy.is_over_in(Duration::from_secs(58)) && copy.is_over_in(Duration::from_secs(61)));

        headers.insert(headers::DEADLINE.into(), AMQPValue::LongLongInt(1));
        let late = requests.of(&asking("a").with_headers(headers.clone())).unwrap();
        assert!(late.is_over_in(Duration::ZERO));
    }

    #[test]
    fn a_deadline_of_rubbish_is_none() {
        let requests = Requests { answers: true, retried: false };
        for expiration in ["", "soon", "-1", "99999999999999999999999"] {
            let request = requests.of(&asking("a").with_expiration(expiration.into())).unwrap();
            assert!(request.expires.is_none(), "{expiration}");
        }
        let far = requests.of(&asking("a").with_expiration(u64::MAX.to_string().into())).unwrap();
        assert!(!far.is_over_in(Duration::from_secs(1 << 30)));
        let mut headers = FieldTable::default();
        headers.insert(headers::DEADLINE.into(), AMQPValue::LongLongInt(-5));
        assert!(requests.of(&asking("a").with_headers(headers)).unwrap().expires.is_none());
    }
}
