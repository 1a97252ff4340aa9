//! Checks an encoded field table, and splits it into its entries if lapin cannot read all of it.
//!
//! Grammar: AMQP 0-9-1, section 4.2.5.5, with the type octets that RabbitMQ uses ("AMQP 0-9-1 Errata", section 3).
//! Nothing here recurses. lapin's parser does, on an I/O thread with a stack of 2 MiB, so the nesting is limited before
//! lapin reads a table.

use crate::link::sanitizer::{
    fault::What,
    limits::{MAX_DEPTH, MAX_VALUES},
};

/// A nested table counts as so many values, in proportion to the memory it takes.
const VALUES_OF_A_TABLE: usize = 8;

/// The headers that the broker writes, and that a replay or the count of deliveries relies on. If a sender has put such
/// a name into a message twice, RabbitMQ updates the first one and lapin reads the last.
const THE_BROKERS: [&[u8]; 3] = [b"x-death", b"x-delivery-count", b"x-first-death-queue"];

/// A bit for each name that only the broker should write; 0 for any other name.
#[inline]
pub(super) fn the_brokers(name: &[u8]) -> u8 {
    match name.len() {
        7 | 16 | 19 => THE_BROKERS.iter().position(|one| *one == name).map_or(0, |at| 1 << at),
        _ => 0,
    }
}

/// One top-level entry of a table, as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableEntry<'a> {
    /// The name without its length octet. It need not be UTF-8.
    pub(super) name: &'a [u8],
    /// The type octet and the value.
    pub(super) value: &'a [u8],
}

/// Checks the content of a table: `Ok` if lapin can read all of it, else the first fault.
pub(super) fn check(content: &[u8]) -> Result<(), What> {
    let mut values = 0;
    let end = walk(content, 0, Container { end: content.len(), named: true }, &mut values)?;
    if end == content.len() { Ok(()) } else { Err(What::Malformed) }
}

/// What is wrong with one value, type octet included; `values` counts on from the entries before it.
pub(super) fn check_value(value: &[u8], values: &mut usize) -> Result<(), What> {
    let end = walk(value, 0, Container { end: value.len(), named: false }, values)?;
    if end == value.len() { Ok(()) } else { Err(What::Malformed) }
}

/// The top-level entries of a table's content up to the first whose length is unknown, and the bytes from there on.
pub(super) fn entries(content: &[u8]) -> (Vec<TableEntry<'_>>, &[u8]) {
    let (mut entries, mut rest) = (Vec::new(), content);
    while let Some((entry, after)) = next_entry(rest) {
        entries.push(entry);
        rest = after;
    }
    (entries, rest)
}

/// The values of an array's content, each with its type octet; `None` if a length is unknown.
pub(super) fn elements(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let (element, rest) = content.split_at_checked(value_length(content)?)?;
        elements.push(element);
        content = rest;
    }
    Some(elements)
}

fn next_entry(content: &[u8]) -> Option<(TableEntry<'_>, &[u8])> {
    let (&length, rest) = content.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let (value, rest) = rest.split_at_checked(value_length(rest)?)?;
    Some((TableEntry { name, value }, rest))
}

/// The bytes that a value takes, including its type octet; `None` for an unknown type.
fn value_length(value: &[u8]) -> Option<usize> {
    match shape(*value.first()?)? {
        Shape::Fixed(length) => Some(1 + length),
        Shape::Bytes | Shape::Array | Shape::Table => Some(5 + length_at(value, 1)?),
    }
}

enum Shape {
    Fixed(usize),
    Bytes,
    Array,
    Table,
}

/// The layout of each type that lapin can read (`AMQPType::from_id`).
fn shape(kind: u8) -> Option<Shape> {
    Some(match kind {
        b'V' => Shape::Fixed(0),
        b't' | b'b' | b'B' => Shape::Fixed(1),
        b's' | b'U' | b'u' => Shape::Fixed(2),
        b'I' | b'i' | b'f' => Shape::Fixed(4),
        b'D' => Shape::Fixed(5),
        b'l' | b'L' | b'd' | b'T' => Shape::Fixed(8),
        b'S' | b'x' => Shape::Bytes,
        b'A' => Shape::Array,
        b'F' => Shape::Table,
        _ => return None,
    })
}

/// A table or an array during the walk.
#[derive(Clone, Copy)]
struct Container {
    end: usize,
    /// Whether there is a name before each value, as in a table.
    named: bool,
}

/// Checks `outer` from `at` to its end, and everything nested in it. Returns the index of its end.
fn walk(bytes: &[u8], mut at: usize, outer: Container, values: &mut usize) -> Result<usize, What> {
    let mut around = [outer; MAX_DEPTH + 1];
    let (mut depth, mut written) = (0, 0);
    loop {
        let inner = around[depth];
        if at == inner.end {
            if depth == 0 {
                return Ok(at);
            }
            depth -= 1;
            continue;
        }
        if inner.named {
            let length = usize::from(*bytes.get(at).ok_or(What::Malformed)?);
            let name = bytes.get(at + 1..at + 1 + length).ok_or(What::Malformed)?;
            if !is_text(name) {
                return Err(What::NameNotUtf8);
            }
            if depth == 0 {
                let bit = the_brokers(name);
                if written & bit != 0 {
                    return Err(What::Twice);
                }
                written |= bit;
            }
            at += 1 + length;
        }
        let kind = *bytes.get(at).ok_or(What::Malformed)?;
        *values += if kind == b'F' { VALUES_OF_A_TABLE } else { 1 };
        if *values > MAX_VALUES {
            return Err(What::TooMany);
        }
        at += 1;
        let length = match shape(kind).ok_or(What::UnknownType(kind))? {
            Shape::Fixed(length) => length,
            Shape::Bytes => {
                let length = length_at(bytes, at).ok_or(What::Malformed)?;
                at += 4;
                length
            }
            nested @ (Shape::Array | Shape::Table) => {
                let length = length_at(bytes, at).ok_or(What::Malformed)?;
                at += 4;
                let end = at + length;
                if end > inner.end {
                    return Err(What::Malformed);
                }
                if depth == MAX_DEPTH {
                    return Err(What::TooDeep);
                }
                depth += 1;
                around[depth] = Container { end, named: matches!(nested, Shape::Table) };
                continue;
            }
        };
        at += length;
        if at > inner.end {
            return Err(What::Malformed);
        }
    }
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()
}

/// Whether lapin accepts `bytes` as a short string.
#[inline]
pub(super) fn is_text(bytes: &[u8]) -> bool {
    is_ascii(bytes) || std::str::from_utf8(bytes).is_ok()
}

/// As the standard library's `is_ascii`, but with fewer instructions for the short strings of a message: it reads
/// sixteen, eight or four bytes at a time. The last block may overlap the one before.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;
    let all = if let Some(last) = bytes.last_chunk::<16>() {
        let (blocks, _) = bytes.as_chunks::<16>();
        blocks.iter().fold(u128::from_ne_bytes(*last), |all, block| all | u128::from_ne_bytes(*block))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        u128::from(u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u128::from(u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last))
    } else {
        u128::from(bytes.iter().fold(0, |all, byte| all | byte))
    };
    all & HIGH_BITS == 0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lapin::types::parsing::parse_field_table;

    /// One entry `name` with a value of this type and these bytes.
    pub(in crate::link::sanitizer) fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
        [&[name.len() as u8], name, value].concat()
    }

    /// A value with a length before its content: `S`, `x`, `A` or `F`.
    pub(in crate::link::sanitizer) fn long(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind], &(content.len() as u32).to_be_bytes()[..], content].concat()
    }

    /// `depth` arrays, one in the other.
    pub(in crate::link::sanitizer) fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| long(b'A', &inner))
    }

    /// Parsed as lapin does, on a thread with a stack of `stack` bytes.
    fn lapin_reads(content: Vec<u8>, stack: usize) -> bool {
        let table = long(b'F', &content)[1..].to_vec();
        let parse = move || parse_field_table(&table[..]).is_ok_and(|(rest, _)| rest.is_empty());
        std::thread::Builder::new().stack_size(stack).spawn(parse).unwrap().join().unwrap()
    }

    #[test]
    fn what_passes_is_what_lapin_reads() {
        let sound = [
            entry(b"a", b"V"),
            entry(b"b", b"t\x01"),
            entry("ключ".as_bytes(), &long(b'S', b"\xff\xfe")),
            entry(b"t", &long(b'F', &entry(b"in", b"I\0\0\0\x01"))),
            entry(b"d", b"D\x02\0\0\0\x07"),
            Vec::new(),
        ];
        for content in &sound {
            assert_eq!(check(content), Ok(()), "{content:?}");
            assert!(lapin_reads(content.clone(), 1 << 20));
        }
        let unsound = [
            (entry(b"\xe9", b"V"), What::NameNotUtf8),
            (entry(b"a", b"Z"), What::UnknownType(b'Z')),
            (entry(b"a", b"I\0\0"), What::Malformed),
            (entry(b"a", b""), What::Malformed),
            (vec![9, b'a'], What::Malformed),
            (entry(b"a", b"S\xff\xff\xff\xff"), What::Malformed),
            (entry(b"a", &long(b'A', b"I\0\0\0")), What::Malformed),
            // Longer than the table around it.
            (entry(b"a", &long(b'F', &entry(b"b", b"A\0\0\0\x09V"))), What::Malformed),
        ];
        for (content, what) in unsound {
            assert_eq!(check(&content), Err(what), "{content:?}");
            assert!(!lapin_reads(content, 1 << 20));
        }
    }

    #[test]
    fn the_deepest_table_that_passes_needs_half_of_lapins_stack_at_most() {
        assert_eq!(check(&entry(b"k", &nested(MAX_DEPTH))), Ok(()));
        assert_eq!(check(&entry(b"k", &nested(MAX_DEPTH + 1))), Err(What::TooDeep));
        assert_eq!(check(&entry(b"k", &nested(20_000))), Err(What::TooDeep));
        assert!(lapin_reads(entry(b"k", &nested(MAX_DEPTH)), 1 << 20));
    }

    #[test]
    fn values_are_counted_wherever_they_are() {
        let voids = |count| vec![b'V'; count];
        assert_eq!(check(&entry(b"k", &long(b'A', &voids(MAX_VALUES - 1)))), Ok(()));
        assert_eq!(check(&entry(b"k", &long(b'A', &voids(MAX_VALUES)))), Err(What::TooMany));
        assert_eq!(check(&entry(b"k", b"V").repeat(MAX_VALUES + 1)), Err(What::TooMany));
        let tables = |count| entry(b"k", &long(b'A', &long(b'F', b"").repeat(count)));
        assert_eq!(check(&tables(MAX_VALUES / 8 - 1)), Ok(()));
        assert_eq!(check(&tables(MAX_VALUES / 8)), Err(What::TooMany), "each takes more memory");
    }

    proptest::proptest! {
        #[test]
        fn text_is_what_the_standard_library_takes_for_it(
            mut bytes in proptest::collection::vec(0..128_u8, 0..40),
            at: usize,
        ) {
            proptest::prop_assert!(is_ascii(&bytes));
            if let Some(length) = std::num::NonZero::new(bytes.len()) {
                bytes[at % length] |= 0x80;
                proptest::prop_assert!(!is_ascii(&bytes));
            }
            proptest::prop_assert_eq!(is_text(&bytes), std::str::from_utf8(&bytes).is_ok());
        }
    }

    #[test]
    fn entries_are_found_past_one_that_cannot_be_read() {
        let content =
            [entry(b"a", &nested(5_000)), entry(b"\xff", b"V"), entry(b"z", &long(b'S', b"ok")), vec![1, b'q', b'?']]
                .concat();
        let (entries, rest) = entries(&content);
        let names: Vec<&[u8]> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, [&b"a"[..], b"\xff", b"z"]);
        assert_eq!(rest, [1, b'q', b'?']);
    }
}
