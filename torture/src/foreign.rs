//! Messages that no well-behaved client sends: their bytes, and the expected result. Both are pure functions of the
//! seed and the id.
//!
//! A message that cannot be read must become a dead letter (`undecodable`) and must never reach a handler. A message
//! whose headers are forged or large, or whose properties are empty or odd, must be handled as any other.

use std::ops::RangeInclusive;

use conformance::raw::{Fields, array, field, flags, integer, long_string, nested_arrays, nested_tables, table};
use fastrand::Rng;
use fluffle::wire::headers;

use crate::id::Lane;

/// The topic exchange. It routes a message to the queue named by the first word of its routing key.
pub const EXCHANGE: &str = "foreign";

/// The properties that a broker forwards as short strings of any bytes. It checks `expiration` and `user_id` itself.
const TEXTS: [u16; 8] = [
    flags::CONTENT_TYPE,
    flags::CONTENT_ENCODING,
    flags::CORRELATION_ID,
    flags::REPLY_TO,
    flags::MESSAGE_ID,
    flags::TYPE,
    flags::APP_ID,
    flags::CLUSTER_ID,
];

/// Nesting levels of one header value: readable ones, and ones that no parser accepts.
const SHALLOW: RangeInclusive<usize> = 1..=30;
const DEEP: RangeInclusive<usize> = 33..=10_000;

/// Numbers of values in one header: readable ones, and too many.
const SOME: RangeInclusive<usize> = 500..=4_000;
const MANY: RangeInclusive<usize> = 4_100..=30_000;

/// Sizes of one header, in bytes. Its frame holds 131,072 bytes, of which about 200 are needed for everything else.
/// Copies of the message have more headers, and do not fit.
const LARGE: RangeInclusive<usize> = 129_500..=130_700;

/// Octets that are no field type in RabbitMQ, which closes the connection over them.
const NO_TYPES: &[u8] = b"Z?\0\xffgE";

/// How a message is foreign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only by its sender.
    Plain,
    /// The property of this flag is not UTF-8.
    Text(u16),
    /// Its routing key is not UTF-8.
    Key,
    /// The name of a header is not UTF-8.
    HeaderName,
    /// A header value nested so deep.
    Nested(usize),
    /// A header with so many values.
    Values(usize),
    /// A header with a type that does not exist.
    NoType(u8),
    /// A header of so many bytes.
    Large(usize),
    /// Headers that only the broker writes.
    Brokers,
    /// `x-fluffle-attempt` with a value that counts.
    Attempt(i64),
    /// Headers that only Fluffle writes, with values that are invalid or contradict each other.
    Fluffles,
    /// Properties that are present, and empty.
    Empty,
    /// Unusual numbers, and a reply address that does not exist.
    Odd,
}

/// One foreign message, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What is foreign about it.
    pub kind: Kind,
    /// Whether its `message_id` is its id.
    named: bool,
    /// Whether its labels say what the body is.
    labelled: bool,
    /// The seed of its bytes.
    bytes: u64,
}

/// A message as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The exchange.
    pub exchange: &'static str,
    /// The routing key.
    pub key: Vec<u8>,
    /// The flags of its properties.
    pub flags: u16,
    /// Its properties.
    pub properties: Vec<u8>,
}

/// The labels of a body, as a Fluffle client sets them.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// The content type.
    pub content_type: &'a str,
    /// The type.
    pub type_name: &'a str,
}

impl Foreign {
    /// Draws a foreign message.
    pub fn draw(random: &mut Rng) -> Self {
        let kind = match random.u8(0..100) {
            0..4 => Kind::Plain,
            4..28 => Kind::Text(TEXTS[random.usize(..TEXTS.len())]),
            28..34 => Kind::Key,
            34..38 => Kind::HeaderName,
            38..42 => Kind::Nested(random.usize(SHALLOW)),
            42..50 => Kind::Nested(random.usize(DEEP)),
            50..53 => Kind::Values(random.usize(SOME)),
            53..56 => Kind::Values(random.usize(MANY)),
            56..59 => Kind::NoType(NO_TYPES[random.usize(..NO_TYPES.len())]),
            59..65 => Kind::Large(random.usize(LARGE)),
            65..77 => Kind::Brokers,
            77..81 => Kind::Attempt([2, 3, 4, 5, 9, i64::MAX][random.usize(..6)]),
            81..90 => Kind::Fluffles,
            90..95 => Kind::Empty,
            _ => Kind::Odd,
        };
        Self { kind, named: random.bool(), labelled: random.bool(), bytes: random.u64(..) }
    }

    /// Whether a client can read it. If not, it must never be handed to a handler.
    pub fn is_readable(&self) -> bool {
        match self.kind {
            Kind::Text(_) | Kind::Key | Kind::HeaderName | Kind::NoType(_) => false,
            Kind::Nested(levels) => SHALLOW.contains(&levels),
            Kind::Values(count) => SOME.contains(&count),
            _ => true,
        }
    }

    /// Whether the broker must refuse it.
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::NoType(_))
    }

    /// Whether its `message_id` identifies it. If not, *effectively once* cannot recognize it.
    pub fn is_named(&self) -> bool {
        self.named && !matches!(self.kind, Kind::Empty | Kind::Text(flags::MESSAGE_ID))
    }

    /// The number of its first attempt.
    pub fn first_attempt(&self) -> u32 {
        match self.kind {
            Kind::Attempt(number) => u32::try_from(number).unwrap_or(u32::MAX),
            _ => 1,
        }
    }

    /// Everything except the body: for the queue of this lane, with this id.
    pub fn message(&self, lane: Lane, id: &str, labels: Labels<'_>) -> Message {
        let mut random = Rng::with_seed(self.bytes);
        let mut properties: Vec<(u16, Vec<u8>)> = Vec::new();
        if self.named {
            properties.push((flags::MESSAGE_ID, short(id.as_bytes())));
        }
        if self.labelled {
            properties.push((flags::CONTENT_TYPE, short(labels.content_type.as_bytes())));
            properties.push((flags::TYPE, short(labels.type_name.as_bytes())));
        }
        let (mut exchange, mut key) = ("", lane.queue().as_bytes().to_vec());
        let mut fields = Vec::new();
        match self.kind {
            Kind::Plain => {}
            Kind::Text(flag) => properties.push((flag, short(&no_text(&mut random)))),
            Kind::Key => {
                exchange = EXCHANGE;
                key = [&key[..], b".", &no_text(&mut random)].concat();
            }
            Kind::HeaderName => fields.push(field(&no_text(&mut random), b"V")),
            Kind::Nested(levels) if random.bool() => fields.push(field(b"k", &nested_tables(levels))),
            Kind::Nested(levels) => fields.push(field(b"k", &nested_arrays(levels))),
            Kind::Values(count) => fields.push(field(b"k", &array(&vec![b"V".to_vec(); count]))),
            Kind::NoType(octet) => fields.push(field(b"k", &[octet, 0, 0, 0, 0])),
            Kind::Large(bytes) => fields.push(field(b"k", &long_string(&vec![b'k'; bytes]))),
            Kind::Brokers => fields.extend(brokers(&mut random, lane)),
            Kind::Attempt(number) => {
                fields.push(field(headers::ATTEMPT.as_bytes(), &integer(number)));
                if random.bool() {
                    fields.extend(origin(lane.queue()));
                }
            }
            Kind::Fluffles => fields.extend(fluffles(&mut random)),
            Kind::Empty => properties.extend(TEXTS.map(|flag| (flag, short(b"")))),
            Kind::Odd => properties.extend([
                (flags::DELIVERY_MODE, vec![random.u8(1..=2)]),
                (flags::PRIORITY, vec![random.u8(..)]),
                (flags::TIMESTAMP, random.u64(..).to_be_bytes().to_vec()),
                (flags::REPLY_TO, short(b"nowhere")),
                (flags::CORRELATION_ID, short("日".repeat(85).as_bytes())),
            ]),
        }
        if !fields.is_empty() {
            properties.push((flags::HEADERS, table(&fields)));
        }
        // Sort by flag. If two have the same flag, keep the foreign one.
        properties.reverse();
        properties.sort_by_key(|(flag, _)| std::cmp::Reverse(*flag));
        properties.dedup_by_key(|(flag, _)| *flag);
        let flags = properties.iter().fold(0, |flags, (flag, _)| flags | flag);
        let properties = properties.into_iter().flat_map(|(_, bytes)| bytes).collect();
        Message { exchange, key, flags, properties }
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    Fields::new().short(text).into_bytes()
}

/// Up to 200 bytes that are not UTF-8.
fn no_text(random: &mut Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = match random.u8(0..3) {
        0 => (0..random.usize(1..=200)).map(|_| random.u8(..)).collect(),
        // Latin-1.
        1 => "h\u{e4}schen".chars().map(|letter| letter as u8).collect(),
        _ => (0..random.usize(1..=40)).map(|_| random.alphanumeric() as u8).collect(),
    };
    let at = random.usize(..bytes.len());
    bytes[at] = 0xff;
    bytes
}

fn one_of(random: &mut Rng, mut values: Vec<Vec<u8>>) -> Vec<u8> {
    values.swap_remove(random.usize(..values.len()))
}

/// Headers that only the broker writes.
fn brokers(random: &mut Rng, lane: Lane) -> Vec<Vec<u8>> {
    let count = one_of(
        random,
        vec![integer(19), integer(20), integer(-1), integer(i64::MAX), long_string(b"19"), array(&[integer(19)])],
    );
    let death = |queue: &str| {
        let texts = [("queue", queue), ("reason", "expired"), ("exchange", "")];
        let mut fields: Vec<_> =
            texts.iter().map(|(name, text)| field(name.as_bytes(), &long_string(text.as_bytes()))).collect();
        fields.push(field(b"count", &integer(7)));
        fields.push(field(b"routing-keys", &array(&[long_string(queue.as_bytes())])));
        [b"F", &table(&fields)[..]].concat()
    };
    // With the first of these, the message seems to have passed all its retry queues without a rejection: a cycle.
    let queues =
        ["", ".retry.20", ".retry.40", ".retry.80", ".dead"].map(|end| death(&format!("{}{end}", lane.queue())));
    let nonsense =
        one_of(random, vec![long_string(b"often"), array(&[integer(1)]), integer(3), array(&[]), b"V".to_vec()]);
    let deaths = if random.bool() { array(&queues) } else { nonsense };
    let first = one_of(random, vec![long_string(lane.queue().as_bytes()), integer(1), b"V".to_vec()]);
    let all = [
        field(b"x-delivery-count", &count),
        field(b"x-acquired-count", &count),
        field(b"x-death", &deaths),
        field(b"x-first-death-queue", &first),
        field(b"x-first-death-reason", &first),
        field(b"x-last-death-queue", &first),
    ];
    // Use one of them, or all.
    let (only, every) = (random.usize(..all.len()), random.bool());
    all.into_iter().enumerate().filter(|(index, _)| every || *index == only).map(|(_, header)| header).collect()
}

/// Headers that claim `queue` as the origin.
fn origin(queue: &str) -> [Vec<u8>; 4] {
    [
        field(headers::ORIGIN_EXCHANGE.as_bytes(), &long_string(b"")),
        field(headers::ORIGIN_KEY.as_bytes(), &long_string(b"k")),
        field(headers::ORIGIN_QUEUE.as_bytes(), &long_string(queue.as_bytes())),
        field(headers::FIRST_SEEN.as_bytes(), &integer(1_700_000_000_000)),
    ]
}

/// Headers that only Fluffle writes, none of which must be believed.
fn fluffles(random: &mut Rng) -> Vec<Vec<u8>> {
    let attempt = |value: &[u8]| field(headers::ATTEMPT.as_bytes(), value);
    let nonsense =
        one_of(random, vec![long_string(b"many"), integer(-7), integer(0), array(&[integer(3)]), b"V".to_vec()]);
    let text = one_of(random, vec![long_string(b"rejected"), long_string(b"attempts-exhausted"), long_string(b"any")]);
    match random.u8(0..5) {
        // The header is there twice.
        0 => vec![attempt(&nonsense), attempt(&nonsense)],
        // The attempt was made in another queue.
        1 => [&origin("elsewhere")[..], &[attempt(&integer(3))]].concat(),
        // A dead letter that somebody has put back: it begins anew.
        2 => vec![field(headers::REASON.as_bytes(), &text), attempt(&integer(3))],
        3 => {
            let time = one_of(random, vec![integer(i64::MAX), integer(i64::MIN), long_string(b"yesterday")]);
            vec![field(headers::FIRST_SEEN.as_bytes(), &time), field(headers::ORIGIN_QUEUE.as_bytes(), &integer(3))]
        }
        _ => vec![
            field(headers::UNREADABLE.as_bytes(), &text),
            field(headers::UNREADABLE_BYTES.as_bytes(), &nonsense),
            field(b"x-fluffle-unreadable-mark", &integer(random.i64(..))),
            field(headers::SHORTENED.as_bytes(), &nonsense),
            field(headers::ERROR.as_bytes(), &nonsense),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> = Labels { content_type: "application/x", type_name: "T" };

    fn drawn() -> impl Iterator<Item = Foreign> {
        let mut random = Rng::with_seed(7);
        std::iter::repeat_with(move || Foreign::draw(&mut random)).take(2_000)
    }

    fn message(foreign: &Foreign) -> Message {
        foreign.message(Lane::Wild, "wild.f0.1", LABELS)
    }

    #[test]
    fn what_is_drawn_twice_has_the_same_bytes_and_every_property_is_spoilt_by_some() {
        for flag in TEXTS {
            let spoilt = drawn().find(|foreign| foreign.kind == Kind::Text(flag)).unwrap();
            assert_eq!(message(&spoilt), message(&spoilt));
            let Message { flags, properties, .. } = message(&spoilt);
            assert!(flags & flag != 0 && std::str::from_utf8(&properties).is_err());
        }
        let key = drawn().find(|foreign| foreign.kind == Kind::Key).unwrap();
        let Message { exchange, key, .. } = message(&key);
        assert!(exchange == EXCHANGE && key.starts_with(b"wild.") && std::str::from_utf8(&key).is_err());
    }

    #[test]
    fn each_property_is_there_once_in_the_order_of_the_flags_and_all_fit_into_a_frame() {
        let named = Foreign { kind: Kind::Empty, named: true, labelled: true, bytes: 1 };
        let Message { flags, properties, .. } = message(&named);
        assert_eq!((flags, properties), (TEXTS.iter().fold(0, |all, flag| all | flag), vec![0; TEXTS.len()]));
        let plain = Foreign { kind: Kind::Plain, ..named };
        assert_eq!(message(&plain).properties, b"\x0dapplication/x\x09wild.f0.1\x01T");
        let largest = drawn().map(|foreign| message(&foreign).properties.len()).max().unwrap();
        assert!((129_000..131_000).contains(&largest), "{largest}");
    }

    #[test]
    fn what_is_readable_named_and_new_is_told_from_what_is_not() {
        let (mut unreadable, mut nameless, mut old, mut refused) = (0, 0, 0, 0);
        for foreign in drawn() {
            unreadable += u32::from(!foreign.is_readable());
            nameless += u32::from(!foreign.is_named());
            old += u32::from(foreign.first_attempt() > 1);
            refused += u32::from(foreign.is_refused());
            assert!(!foreign.is_refused() || !foreign.is_readable());
            assert!(message(&foreign).flags & flags::MESSAGE_ID != 0 || !foreign.is_named());
        }
        assert!([unreadable, nameless, old, refused].iter().all(|count| (10..1_500).contains(count)));
    }
}
