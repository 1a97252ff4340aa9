//! Which deliveries are requests, and until when somebody waits for their answer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use fluffle_wire::headers;
use lapin::BasicProperties;

use crate::consume::message::received::AmqpHeader;

/// What addresses of direct reply-to begin with (RabbitMQ, "Direct Reply-to").
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether an answer may be sent to this address. RabbitMQ's channel crashes, and the whole connection with it, over an address of
/// direct reply-to that has the form of its own (`<process>.<key>`) and is none: the process is an Erlang term, in base64. Anybody
/// may write such an address into a message.
pub(crate) fn can_be_answered(reply_to: &str) -> bool {
    let Some(words) = reply_to.strip_prefix(DIRECT_REPLY_TO).and_then(|rest| rest.strip_prefix('.')) else {
        return true;
    };
    let mut words = words.split('.').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(process), Some(_), None) => PROCESS.decode(process).is_ok_and(|term| is_process(&term)),
        // RabbitMQ finds nobody there; other brokers have addresses of one word.
        _ => true,
    }
}

/// With padding or without, as RabbitMQ's versions have it.
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
        if !can_be_answered(reply_to.as_str()) {
            return None;
        }
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
