//! Shortens headers to fit into a frame: which headers first, and how a reader can tell.

use std::{cmp::Reverse, collections::HashSet};

use fluffle_wire::headers;
use lapin::types::AMQPValue;

use crate::link::sanitizer::{
    fault::{boundary, shown},
    mark::{MARK, SHORTENED, UNREADABLE, UNREADABLE_BYTES},
    table::{self, TableEntry},
};

/// Fluffle's own headers. They say why a message is in its queue, so they are shortened last.
const NUMBERS: [&str; 5] = [headers::ATTEMPT, headers::FIRST_SEEN, headers::DEADLINE, headers::RETRIED_AT, MARK];
const TEXTS: [&str; 9] = [
    headers::REASON,
    headers::ERROR,
    headers::ORIGIN_EXCHANGE,
    headers::ORIGIN_KEY,
    headers::ORIGIN_QUEUE,
    headers::REPLAY,
    headers::ITEM_TYPES,
    UNREADABLE,
    SHORTENED,
];

/// The header that the broker extends each time it dead-letters a message; the newest entry is the first.
const X_DEATH: &str = "x-death";

/// Whether Fluffle writes a header of this name and type.
pub(crate) fn is_ours(name: &str, value: &AMQPValue) -> bool {
    match value {
        AMQPValue::LongLongInt(_) => NUMBERS.contains(&name),
        AMQPValue::LongString(_) => TEXTS.contains(&name),
        AMQPValue::FieldTable(_) => name == UNREADABLE_BYTES,
        _ => false,
    }
}

/// The most bytes for the names of shortened headers.
const NAMES: usize = 256;

/// If fewer bytes than this would be left of a string, it is left out instead.
const LEAST_KEPT: usize = 16;

/// The content of a table, reduced to at most `longest` bytes. If it is longer, the oldest entries of `x-death` are
/// removed first. Then the longest foreign header is cut (a string) or left out (anything else), then the next longest,
/// until the rest fits. Fluffle's own headers come last. The header [`SHORTENED`] names what was cut or left out.
pub(crate) fn shorten(content: Vec<u8>, longest: usize) -> Vec<u8> {
    if content.len() <= longest {
        return content;
    }
    let (entries, _) = table::entries(&content);
    let mut headers = Headers { entries: once_each(&entries), shortened: Vec::new() };
    // Leaves room for the header that names the shortened ones.
    let room = longest.saturating_sub(1 + SHORTENED.len() + 5 + NAMES);
    headers.shorten(room);
    headers.encoded()
}

/// The entries, each name once. If a name occurs twice, the last entry counts, as for lapin.
fn once_each(entries: &[TableEntry<'_>]) -> Vec<Header> {
    let mut names = HashSet::new();
    let mut last: Vec<Header> =
        entries.iter().rev().filter(|entry| names.insert(entry.name)).map(Header::new).collect();
    last.reverse();
    last
}

struct Header {
    name: Vec<u8>,
    /// The type octet and the value.
    value: Vec<u8>,
}

impl Header {
    fn new(entry: &TableEntry<'_>) -> Self {
        Self { name: entry.name.to_vec(), value: entry.value.to_vec() }
    }

    fn len(&self) -> usize {
        1 + self.name.len() + self.value.len()
    }

    fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }

    /// The rank of a header: those with 0 are shortened first. `None` means that it always stays: Fluffle's own
    /// numbers, which are short and count attempts. A foreign header with a name of Fluffle's but another type counts
    /// as foreign.
    fn importance(&self) -> Option<u8> {
        match self.value.first() {
            Some(b'l') if NUMBERS.iter().any(|name| self.is(name)) => None,
            Some(b'S') if TEXTS.iter().any(|name| self.is(name)) => Some(2),
            Some(b'F') if self.is(UNREADABLE_BYTES) => Some(1),
            _ => Some(0),
        }
    }

    /// Whether a string may be cut: a foreign one, or a text of Fluffle's that is only read by people. Half of the
    /// name of an exchange, a queue, a key or a type would be another name.
    fn can_be_cut(&self) -> bool {
        self.importance() == Some(0) || self.is(headers::ERROR) || self.is(UNREADABLE)
    }
}

struct Headers {
    entries: Vec<Header>,
    shortened: Vec<Vec<u8>>,
}

impl Headers {
    fn len(&self) -> usize {
        self.entries.iter().map(Header::len).sum()
    }

    fn shorten(&mut self, longest: usize) {
        self.forget_oldest_deaths(longest);
        let mut over = self.len().saturating_sub(longest);
        if over == 0 {
            return;
        }
        // Starts with the longest of the least important headers, and ends with the first header that can be cut far
        // enough.
        let all = self.entries.iter().enumerate();
        let by_need = all.filter_map(|(index, header)| Some((header.importance()?, Reverse(header.len()), index)));
        let mut by_need: Vec<_> = by_need.collect();
        by_need.sort_unstable();
        let mut left_out = vec![false; self.entries.len()];
        for (_, _, index) in by_need {
            let header = &mut self.entries[index];
            self.shortened.push(header.name.clone());
            if header.can_be_cut()
                && let Some(value) = cut(&header.value, over)
            {
                header.value = value;
                break;
            }
            left_out[index] = true;
            over = over.saturating_sub(header.len());
            if over == 0 {
                break;
            }
        }
        let mut left_out = left_out.into_iter();
        self.entries.retain(|_| !left_out.next().unwrap_or_default());
    }

    fn forget_oldest_deaths(&mut self, longest: usize) {
        let Some(over) = self.len().checked_sub(longest) else { return };
        let Some(header) = self.entries.iter_mut().find(|header| header.is(X_DEATH)) else { return };
        if header.value.first() != Some(&b'A') {
            return;
        }
        let Some(mut deaths) = table::elements(&header.value[5..]) else { return };
        let mut forgotten = 0;
        while deaths.len() > 1 && forgotten < over {
            forgotten += deaths.pop().map_or(0, <[u8]>::len);
        }
        if forgotten > 0 {
            header.value = long(b'A', &deaths.concat());
            self.shortened.push(X_DEATH.into());
        }
    }

    fn encoded(mut self) -> Vec<u8> {
        self.tell();
        let mut content = Vec::new();
        for Header { name, value } in self.entries {
            content.push(name.len() as u8);
            content.extend_from_slice(&name);
            content.extend_from_slice(&value);
        }
        content
    }

    /// Adds the names of the shortened headers to those that an earlier copy named.
    fn tell(&mut self) {
        let before = self.entries.iter().position(|header| header.is(SHORTENED)).map(|at| self.entries.remove(at));
        let before = before.and_then(|header| Some(String::from_utf8_lossy(header.value.get(5..)?).into_owned()));
        let mut names: Vec<String> = before.iter().flat_map(|text| text.split(", ")).map(str::to_owned).collect();
        // More names do not fit.
        let most = NAMES / ", ".len();
        for name in self.shortened.drain(..).take(most) {
            let name = shown(&name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut told = names.join(", ");
        told.truncate(boundary(&told, NAMES));
        self.entries.push(Header { name: SHORTENED.into(), value: long(b'S', told.as_bytes()) });
    }
}

/// A string or byte array that is shorter by `over` bytes; `None` if fewer than [`LEAST_KEPT`] bytes would be left, or
/// the value is of another type.
fn cut(value: &[u8], over: usize) -> Option<Vec<u8>> {
    let kind = *value.first().filter(|kind| matches!(kind, b'S' | b'x'))?;
    let bytes = value.get(5..)?;
    let kept = bytes.len().checked_sub(over).filter(|kept| *kept >= LEAST_KEPT)?;
    let kept = match std::str::from_utf8(bytes) {
        Ok(text) => boundary(text, kept),
        Err(_) => kept,
    };
    Some(long(kind, &bytes[..kept]))
}

fn long(kind: u8, bytes: &[u8]) -> Vec<u8> {
    // The conversion does not fail: the bytes are part of a table whose length was a u32.
    [&[kind], &u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::sanitizer::table::{
        check, entries,
        tests::{entry, long},
    };

    #[test]
    fn what_only_looks_like_fluffles_own_is_foreign_and_of_a_name_that_comes_twice_the_last_counts() {
        let number = |n: u8| [b"l\0\0\0\0\0\0\0", &[n][..]].concat();
        let content = [
            entry(b"x-fluffle-attempt", &number(1)).repeat(500),
            entry(b"x-fluffle-attempt", &number(2)),
            (0..250_u8)
                .flat_map(|n| entry(&[b"x-fluffle-", &[b'a' + n % 26, b'a' + n / 26][..]].concat(), &number(n)))
                .collect(),
            entry(b"x-fluffle-first-seen", &long(b'x', &[7; 5000])),
        ]
        .concat();
        let short = shorten(content, 1000);
        assert!(check(&short).is_ok() && short.len() <= 1000, "{}", short.len());
        assert_eq!(value(&short, "x-fluffle-attempt").unwrap(), number(2));
    }

    fn value<'a>(content: &'a [u8], name: &str) -> Option<&'a [u8]> {
        entries(content).0.into_iter().find(|entry| entry.name == name.as_bytes()).map(|entry| entry.value)
    }

    fn text(content: &[u8], name: &str) -> Option<String> {
        value(content, name).map(|value| String::from_utf8(value[5..].to_vec()).unwrap())
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let content = entry(b"a", b"V");
        assert_eq!(shorten(content.clone(), content.len()), content);
    }

    #[test]
    fn the_longest_foreign_header_is_cut_and_fluffles_own_are_kept() {
        let content = [
            entry(b"x-fluffle-error", &long(b'S', &[b'e'; 2000])),
            entry(b"big", &long(b'S', "é".repeat(5000).as_bytes())),
            entry(b"small", &long(b'S', &[b's'; 100])),
        ]
        .concat();
        let short = shorten(content, 4000);
        assert!(short.len() <= 4000 && check(&short).is_ok());
        assert_eq!(text(&short, "x-fluffle-error").unwrap().len(), 2000);
        assert_eq!(text(&short, "small").unwrap().len(), 100);
        assert!(text(&short, "big").unwrap().len() > 1000);
        assert_eq!(text(&short, SHORTENED).unwrap(), "big");
    }

    #[test]
    fn the_types_of_a_batchs_items_are_left_out_as_a_whole_or_the_last_one_would_be_another() {
        let types = entry(b"x-fluffle-item-types", &long(b'S', &b"1*shop.OrderPlaced 1*shop.Order ".repeat(60)));
        let content = [types.clone(), entry(b"big", &long(b'S', &[b'b'; 1500]))].concat();
        let short = shorten(content, types.len() + 1000);
        assert_eq!(text(&short, "x-fluffle-item-types").unwrap().len(), 60 * 32);
        let short = shorten(types, 1000);
        assert!(value(&short, "x-fluffle-item-types").is_none());
        assert_eq!(text(&short, SHORTENED).unwrap(), "x-fluffle-item-types");
    }

    #[test]
    fn the_oldest_deaths_are_forgotten_before_anything_is_cut() {
        let death = |queue: &str| long(b'F', &entry(b"queue", &long(b'S', queue.as_bytes())));
        let deaths = ["last", "between", "first"].map(death).concat();
        let content = [entry(b"x-death", &long(b'A', &deaths)), entry(b"big", &long(b'S', &[b'b'; 1000]))].concat();
        let longest = content.len() + SHORTENED.len() + 6 + NAMES - 10;
        let short = shorten(content.clone(), longest);
        assert_eq!(short, content, "it fits as it is");
        let short = shorten(content.clone(), content.len() - 1);
        let left = table::elements(&value(&short, "x-death").unwrap()[5..]).unwrap();
        assert_eq!(left, [&death("last")[..]]);
        assert!(text(&short, SHORTENED).unwrap().starts_with("x-death"));
    }

    #[test]
    fn whatever_there_is_fits_in_the_end_and_an_earlier_copys_names_are_kept() {
        let content = [
            entry(b"x-fluffle-shortened", &long(b'S', b"before")),
            entry(b"x-fluffle-attempt", b"l\0\0\0\0\0\0\0\x03"),
            entry(b"x-fluffle-origin-key", &long(b'S', &[b'k'; 255])),
            entry(b"x-fluffle-error", &long(b'S', &[b'e'; 2000])),
            entry(b"t", &long(b'F', &entry(b"in", &long(b'S', &[b'i'; 3000])))),
            entry(b"x-fluffle-unreadable-bytes", &long(b'F', &entry(b"in", &long(b'x', &[1; 900])))),
        ]
        .concat();
        let short = shorten(content.clone(), 2800);
        assert!(check(&short).is_ok() && short.len() <= 2800, "{}", short.len());
        assert!(value(&short, "t").is_none() && value(&short, UNREADABLE_BYTES).is_none());
        assert_eq!(text(&short, "x-fluffle-error").unwrap().len(), 2000);
        assert_eq!(text(&short, SHORTENED).unwrap(), "before, t, x-fluffle-unreadable-bytes");
        for longest in (350..content.len()).step_by(7) {
            let short = shorten(content.clone(), longest);
            assert!(check(&short).is_ok() && short.len() <= longest, "{longest}: {}", short.len());
            assert!(value(&short, "x-fluffle-attempt").is_some(), "or it would be tried for ever");
            let key = text(&short, "x-fluffle-origin-key");
            assert!(key.is_none_or(|key| key.len() == 255), "no other name than its own");
        }
    }
}
