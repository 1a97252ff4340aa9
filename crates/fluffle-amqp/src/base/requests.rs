//! Which deliveries are requests, and until when their sender waits for the answer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use fluffle_wire::headers;
use lapin::BasicProperties;

use crate::base::header::lookup;

/// The prefix of every direct reply-to address (RabbitMQ, "Direct Reply-to").
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether an answer may be sent to this address.
///
/// A direct reply-to address of RabbitMQ has the form `amq.rabbitmq.reply-to.<process>.<key>`, where the process is an
/// Erlang term in base64. If an address has this form but the process is invalid, publishing to it crashes RabbitMQ's
/// channel, and the whole connection with it. Any sender can write such an address into a message, so it is checked
/// here first.
pub(crate) fn can_be_answered(reply_to: &str) -> bool {
    let Some(words) = reply_to.strip_prefix(DIRECT_REPLY_TO).and_then(|rest| rest.strip_prefix('.')) else {
        return true;
    };
    let mut words = words.split('.').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(process), Some(_), None) => PROCESS.decode(process).is_ok_and(|term| is_process(&term)),
        // RabbitMQ finds no process for such an address, which does no harm; other brokers use addresses of one word.
        _ => true,
    }
}

/// The padding is optional, because RabbitMQ's versions differ in it.
const PROCESS: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether `term` is a process identifier in Erlang's external term format (`PID_EXT`, `NEW_PID_EXT`).
fn is_process(term: &[u8]) -> bool {
    let (numbers, atom) = match term {
        [131, 88, atom @ ..] => (12, atom),
        [131, 103, atom @ ..] => (9, atom),
        _ => return false,
    };
    let node = match atom {
        // ATOM_EXT, ATOM_UTF8_EXT
        [100 | 118, high, low, node @ ..] => node.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))),
        // SMALL_ATOM_EXT, SMALL_ATOM_UTF8_EXT
        [115 | 119, length, node @ ..] => node.split_at_checked(usize::from(*length)),
        _ => None,
    };
    node.is_some_and(|(name, rest)| name.is_ascii() && rest.len() == numbers)
}

/// How one consumer treats messages that ask for an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    /// Whether its handlers answer with a type other than `()`.
    pub(crate) answers: bool,
    /// Whether a request that fails is retried like any other message, instead of being answered with its failure.
    pub(crate) retried: bool,
}

/// A request: a delivery whose sender waits for the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// When its sender stops waiting; `None` if the message does not say.
    pub(crate) expires: Option<Instant>,
    /// Whether the request is retried if it fails.
    pub(crate) retried: bool,
}

impl Requests {
    /// The request in a message with these properties, if it is one. A message with a reply address is a request if
    /// this consumer gives answers, or if the address is a direct reply-to address, because a requester waits behind
    /// each of those. Any other message is not a request: some frameworks put a reply address on every message they
    /// send.
    pub(crate) fn of(self, properties: &BasicProperties) -> Option<Request> {
        let reply_to = properties.reply_to().as_ref()?;
        if !can_be_answered(reply_to.as_str()) {
            return None;
        }
        let is_request = self.answers || reply_to.as_str().starts_with(DIRECT_REPLY_TO);
        is_request.then(|| Request { expires: expires(properties), retried: self.retried })
    }
}

impl Request {
    /// Whether the sender will have stopped waiting when `wait` is over.
    pub(crate) fn is_over_in(&self, wait: Duration) -> bool {
        self.expires.is_some_and(|expires| Instant::now() + wait >= expires)
    }

    /// The value of the header that keeps the deadline on a copy, in milliseconds since 1970. A copy needs it because
    /// the broker removes `expiration` when it dead-letters a message.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        let deadline = (SystemTime::now() + left).duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(deadline.as_millis()).ok()
    }
}

/// When the sender stops waiting. On a copy the header says it. On a first delivery it is `expiration` from now at the
/// latest: the broker does not tell how long the message was in its queue, and does not deliver a message that expired
/// there.
fn expires(properties: &BasicProperties) -> Option<Instant> {
    let left = match lookup(properties, headers::DEADLINE).and_then(|header| header.integer()) {
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
    fn an_address_of_direct_reply_to_names_a_process_or_has_another_form() {
        // As RabbitMQ 3.10 made it.
        let made = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3OAAAAAEAAAACAAAAAw==.c2VjcmV0";
        for address in [made, "q", "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.one", "amq.rabbitmq.reply-to.a.b.c"]
        {
            assert!(can_be_answered(address), "{address}");
        }
        assert!(Requests::default().of(&asking(made)).is_some());
        for address in [
            "!!!.key",
            "AAAA.key",
            "g2gCYQFhAg==.key",
            "g1h2AA5yZXBs.key",
            "g1h2AA5yZXBseUAxMjM0NTY3OAAAAAEAAAACAAAA.key",
        ] {
            let address = format!("{DIRECT_REPLY_TO}.{address}");
            assert!(!can_be_answered(&address), "{address}");
            assert!(Requests { answers: true, retried: false }.of(&asking(&address)).is_none(), "{address}");
        }
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
