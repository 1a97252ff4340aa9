//! Checks whether lapin can read the content header of a message, and if not, builds one that it can read.
//!
//! Layout: AMQP 0-9-1, sections 2.3.5.2 and 4.2.6.1.

use crate::link::sanitizer::{
    fault::{Faults, What, shown},
    mark,
    shorten::shorten,
    table::{self, TableEntry, is_text},
};

/// Bytes before the property flags: class, weight and body size.
const BEFORE_FLAGS: usize = 12;

/// The flags that AMQP 0-9-1 does not define for class `basic`: a continuation and a reserved bit.
const UNKNOWN_FLAGS: u16 = 0b11;

enum PropertyKind {
    Text,
    Table,
    Octet,
    Time,
}

/// The properties of class `basic` in the order of their flags, from the highest bit down.
const PROPERTIES: [(&str, PropertyKind); 14] = [
    ("content_type", PropertyKind::Text),
    ("content_encoding", PropertyKind::Text),
    ("headers", PropertyKind::Table),
    ("delivery_mode", PropertyKind::Octet),
    ("priority", PropertyKind::Octet),
    ("correlation_id", PropertyKind::Text),
    ("reply_to", PropertyKind::Text),
    ("expiration", PropertyKind::Text),
    ("message_id", PropertyKind::Text),
    ("timestamp", PropertyKind::Time),
    ("type", PropertyKind::Text),
    ("user_id", PropertyKind::Text),
    ("app_id", PropertyKind::Text),
    ("cluster_id", PropertyKind::Text),
];

/// Bytes of a frame that are not its payload.
pub(super) const AROUND_PAYLOAD: usize = 8;

/// Whether lapin can read this payload of a content header frame.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    flags(payload).and_then(|(flags, properties)| end_of_sound(flags, properties)).is_some_and(<[u8]>::is_empty)
}

/// The bytes behind the properties with these flags; `None` if one of the properties is not sound. The loop goes from
/// one set flag to the next, because most messages have five of the fourteen properties.
fn end_of_sound(mut flags: u16, mut rest: &[u8]) -> Option<&[u8]> {
    /// The flags of the properties that are short strings.
    const TEXTS: u16 = 0b1100_0111_1011_1100;
    while flags != 0 {
        let flag = 0x8000 >> flags.leading_zeros();
        flags ^= flag;
        if flag & TEXTS != 0 {
            let (&length, after) = rest.split_first()?;
            let (text, after) = after.split_at_checked(usize::from(length))?;
            rest = if is_text(text) { after } else { return None };
            continue;
        }
        let (_, kind) = PROPERTIES.get(flag.leading_zeros() as usize)?;
        let (value, after) = split(kind, rest)?;
        if matches!(kind, PropertyKind::Table) && table::check(value).is_err() {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// A payload of at most `longest` bytes that lapin can read: the readable parts of this payload, and headers that name
/// the unreadable parts or the shortened headers. `faults` are the faults found before.
///
/// The class, the weight and the size of the body are kept. The result is `None` if the payload is too short for those:
/// it is then not a content header, and lapin has to end the connection.
pub(super) fn rebuild(payload: &[u8], mut faults: Faults, longest: usize) -> Option<Vec<u8>> {
    let (flags, mut rest) = flags(payload)?;
    if flags & UNKNOWN_FLAGS != 0 {
        faults.add("property flags", What::UnknownFlags, &flags.to_be_bytes());
    }
    let mut kept =
        KeptProperties { flags: 0, before_headers: Vec::new(), headers: Vec::new(), after_headers: Vec::new() };
    for (bit, (name, kind)) in PROPERTIES.iter().enumerate() {
        if flags & (0x8000 >> bit) == 0 {
            continue;
        }
        let Some((value, after)) = split(kind, rest) else {
            faults.add(*name, What::Malformed, rest);
            rest = &[];
            break;
        };
        match kind {
            PropertyKind::Table => kept.headers = readable(value, &mut faults),
            PropertyKind::Text if !is_text(value) => faults.add(*name, What::NotUtf8, value),
            _ => kept.add(bit, &rest[..rest.len() - after.len()]),
        }
        rest = after;
    }
    if !rest.is_empty() {
        faults.add("after the properties", What::Malformed, rest);
    }
    Some(kept.payload(&payload[..BEFORE_FLAGS], &faults, longest))
}

fn flags(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (flags, rest) = payload.get(BEFORE_FLAGS..)?.split_at_checked(2)?;
    Some((u16::from_be_bytes(flags.try_into().ok()?), rest))
}

/// The value of a property without its length field, and the bytes behind it.
fn split<'a>(kind: &PropertyKind, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match kind {
        PropertyKind::Text => {
            let (&length, rest) = bytes.split_first()?;
            rest.split_at_checked(usize::from(length))
        }
        PropertyKind::Table => {
            let (length, rest) = bytes.split_at_checked(4)?;
            let length = u32::from_be_bytes(length.try_into().ok()?);
            rest.split_at_checked(usize::try_from(length).ok()?)
        }
        PropertyKind::Octet => bytes.split_at_checked(1),
        PropertyKind::Time => bytes.split_at_checked(8),
    }
}

/// The readable entries of a table; the others become faults. If a header that only the broker should write is there
/// twice, the first one is kept.
fn readable<'a>(content: &'a [u8], faults: &mut Faults) -> Vec<TableEntry<'a>> {
    let (entries, rest) = table::entries(content);
    let (mut readable, mut values, mut written) = (Vec::new(), 0, 0);
    for entry in entries {
        let bit = table::the_brokers(entry.name);
        if written & bit != 0 {
            continue;
        }
        written |= bit;
        let what = if is_text(entry.name) {
            table::check_value(entry.value, &mut values).err()
        } else {
            Some(What::NameNotUtf8)
        };
        match what {
            None => readable.push(entry),
            Some(what) => faults.add(format!("headers.{}", shown(entry.name)), what, entry.value),
        }
    }
    if !rest.is_empty() {
        faults.add("headers", What::Malformed, rest);
    }
    readable
}

/// The parts of a message's properties that are kept.
struct KeptProperties<'a> {
    flags: u16,
    before_headers: Vec<u8>,
    headers: Vec<TableEntry<'a>>,
    after_headers: Vec<u8>,
}

const HEADERS_BIT: usize = 2;

impl KeptProperties<'_> {
    fn add(&mut self, bit: usize, encoded: &[u8]) {
        self.flags |= 0x8000 >> bit;
        let part = if bit < HEADERS_BIT { &mut self.before_headers } else { &mut self.after_headers };
        part.extend_from_slice(encoded);
    }

    fn payload(self, before_flags: &[u8], faults: &Faults, longest: usize) -> Vec<u8> {
        let mut content = Vec::new();
        for TableEntry { name, value } in &self.headers {
            // The cast does not truncate: the name was read as a short string.
            content.push(name.len() as u8);
            content.extend_from_slice(name);
            content.extend_from_slice(value);
        }
        mark::write(&mut content, faults);
        let others = before_flags.len() + 2 + self.before_headers.len() + 4 + self.after_headers.len();
        let content = shorten(content, longest.saturating_sub(others));
        let flags = self.flags | (0x8000 >> HEADERS_BIT);
        // The conversion does not fail: the length is at most `longest`, which is a frame's length.
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        [before_flags, &flags.to_be_bytes(), &self.before_headers, &length.to_be_bytes(), &content, &self.after_headers]
            .concat()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::link::sanitizer::table::tests::{entry, long, nested};
    use lapin::{
        BasicProperties,
        protocol::basic::{gen_properties, parse_properties},
        types::AMQPValue,
    };

    /// A payload with these flags and encoded properties.
    pub(in crate::link::sanitizer) fn payload(flags: u16, properties: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 0], &6_u64.to_be_bytes()[..], &flags.to_be_bytes(), properties].concat()
    }

    pub(in crate::link::sanitizer) fn parsed(payload: &[u8]) -> BasicProperties {
        let (rest, properties) = parse_properties(&payload[BEFORE_FLAGS..]).unwrap();
        assert!(rest.is_empty());
        properties
    }

    fn text(properties: &BasicProperties, header: &str) -> String {
        match properties.headers().as_ref().unwrap().inner().get(header) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{header}: {other:?}"),
        }
    }

    const LONGEST: usize = 131_072;

    fn rebuilt(payload: &[u8]) -> BasicProperties {
        assert!(!is_sound(payload));
        let rebuilt = rebuild(payload, Faults::default(), LONGEST).unwrap();
        assert!(is_sound(&rebuilt) && rebuilt.len() <= LONGEST);
        assert_eq!(rebuilt[..BEFORE_FLAGS], payload[..BEFORE_FLAGS], "the size of the body stays");
        parsed(&rebuilt)
    }

    #[test]
    fn the_flags_of_texts_are_those_of_the_properties() {
        for (bit, (name, kind)) in PROPERTIES.iter().enumerate() {
            let text = payload(0x8000 >> bit, b"\x01a");
            assert_eq!(is_sound(&text), matches!(kind, PropertyKind::Text), "{name}");
        }
    }

    #[test]
    fn what_lapin_writes_is_sound() {
        let properties = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_message_id("naïve".into())
            .with_timestamp(7)
            .with_priority(3)
            .with_cluster_id("c".into());
        let (encoded, _) = gen_properties(&properties)(Vec::new().into()).unwrap().into_inner();
        let payload = [&payload(0, &[])[..BEFORE_FLAGS], &encoded[..]].concat();
        assert!(is_sound(&payload));
        assert_eq!(parsed(&payload), properties);
    }

    #[test]
    fn a_property_that_is_no_text_is_left_out_and_the_others_are_kept() {
        // correlation_id and message_id.
        let properties = rebuilt(&payload(0x0480, &[&entry(b"\xe9t\xe9", b"")[..], &entry(b"m1", b"")].concat()));
        assert!(properties.correlation_id().is_none());
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m1");
        assert_eq!(text(&properties, mark::UNREADABLE), "correlation_id: not UTF-8");
        let kept = properties.headers().as_ref().unwrap().inner().get(mark::UNREADABLE_BYTES).unwrap();
        let AMQPValue::FieldTable(kept) = kept else { panic!("{kept:?}") };
        assert_eq!(kept.inner().get("correlation_id"), Some(&AMQPValue::ByteArray(b"\xe9t\xe9"[..].into())));
    }

    #[test]
    fn a_header_that_cannot_be_read_is_left_out_and_the_others_are_kept() {
        let content =
            [entry(b"a", &long(b'S', b"kept")), entry(b"deep", &nested(1000)), entry(b"z", b"t\x01")].concat();
        let properties = rebuilt(&payload(0x2000, &long(b'F', &content)[1..]));
        assert_eq!(text(&properties, "a"), "kept");
        let headers = properties.headers().as_ref().unwrap().inner();
        assert!(headers.contains_key("z") && !headers.contains_key("deep"));
        assert_eq!(text(&properties, mark::UNREADABLE), "headers.deep: nested deeper than 32 levels");
    }

    #[test]
    fn of_a_header_of_the_brokers_that_is_there_twice_the_first_is_kept() {
        let count = |n: u8| entry(b"x-delivery-count", &[b"l\0\0\0\0\0\0\0", &[n][..]].concat());
        let content = [count(1), entry(b"twice", b"V"), entry(b"twice", b"V"), count(9)].concat();
        let properties = rebuilt(&payload(0x2000, &long(b'F', &content)[1..]));
        let headers = properties.headers().as_ref().unwrap();
        assert_eq!(headers.inner().get("x-delivery-count"), Some(&AMQPValue::LongLongInt(1)));
        assert!(mark::taken(&properties).is_none(), "it can be handled");
    }

    #[test]
    fn properties_that_are_cut_short_too_long_or_unknown_leave_a_message() {
        for (flags, bytes) in [
            (0x8000, &b"\x09text"[..]),
            (0x8000, b"\x04textmore"),
            (0x8003, b"\x04text"),
            (0x2000, b"\0\0\0\x09\x01aV"),
            (0x0040, b"\0\0\0"),
            (0xfffc, b""),
            (0x0001, b""),
            (0x2000, b"\0\0\0\x03\x01a?"),
        ] {
            let properties = rebuilt(&payload(flags, bytes));
            assert!(!text(&properties, mark::UNREADABLE).is_empty());
        }
        assert!(rebuild(&payload(0, &[])[..13], Faults::default(), LONGEST).is_none(), "that is no content header");
    }

    #[test]
    fn headers_that_do_not_fit_are_shortened_and_nothing_is_said_to_be_unreadable() {
        let content = [entry(b"blob", &long(b'S', &[b'b'; 200_000])), entry(b"a", &long(b'S', b"kept"))].concat();
        let too_long = payload(0x2000, &long(b'F', &content)[1..]);
        assert!(is_sound(&too_long));
        let rebuilt = rebuild(&too_long, Faults::default(), LONGEST).unwrap();
        assert!(rebuilt.len() <= LONGEST && rebuilt.len() > LONGEST - 300 && is_sound(&rebuilt));
        let properties = parsed(&rebuilt);
        assert_eq!(text(&properties, "a"), "kept");
        assert_eq!(text(&properties, mark::SHORTENED), "blob");
        assert!(!properties.headers().as_ref().unwrap().contains_key(mark::UNREADABLE));
        assert!(mark::taken(&properties).is_none());
    }
}
