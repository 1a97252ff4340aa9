//! The faults of a message: in words, and as the bytes that could not be read.

use std::fmt;

use crate::link::sanitizer::limits::{MAX_DEPTH, MAX_VALUES};

/// The most bytes kept of one unreadable part.
const KEPT_OF_ONE: usize = 256;

/// The most bytes kept of all unreadable parts of one message.
const KEPT_OF_ALL: usize = 2048;

/// The most faults described for one message; further faults are only counted.
const DESCRIBED: usize = 8;

/// The fault of one part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A short string that is not UTF-8.
    NotUtf8,
    /// The name of a header, or a nested name, that is not UTF-8.
    NameNotUtf8,
    /// A length that points past the end, or bytes left over.
    Malformed,
    /// A type octet that AMQP 0-9-1 and RabbitMQ do not define.
    UnknownType(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More values than [`MAX_VALUES`].
    TooMany,
    /// A header that the broker writes is there twice.
    Twice,
    /// Longer than the largest content header that is checked as a whole.
    TooLong,
    /// Property flags that AMQP 0-9-1 does not define.
    UnknownFlags,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::NameNotUtf8 => f.write_str("a name in it is not UTF-8"),
            Self::Malformed => f.write_str("malformed"),
            Self::UnknownType(kind) => write!(f, "unknown type {:?}", char::from(*kind)),
            Self::TooDeep => write!(f, "nested deeper than {} levels", MAX_DEPTH),
            Self::TooMany => write!(f, "more than {} values", MAX_VALUES),
            Self::Twice => f.write_str("there twice"),
            Self::TooLong => f.write_str("too long to be checked"),
            Self::UnknownFlags => f.write_str("flags that AMQP 0-9-1 does not define"),
        }
    }
}

/// All faults of one message.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    described: Vec<(String, What, Vec<u8>)>,
    more: usize,
    kept: usize,
}

impl Faults {
    /// Notes that `part` cannot be read, with its bytes.
    pub(super) fn add(&mut self, part: impl Into<String>, what: What, bytes: &[u8]) {
        if self.described.len() == DESCRIBED {
            self.more += 1;
            return;
        }
        let kept = &bytes[..bytes.len().min(KEPT_OF_ONE).min(KEPT_OF_ALL - self.kept)];
        self.kept += kept.len();
        self.described.push((part.into(), what, kept.to_vec()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.described.is_empty()
    }

    /// The unreadable parts, with the bytes that are kept of each.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.described.iter().map(|(part, _, bytes)| (part.as_str(), &bytes[..]))
    }
}

/// Displays, for example, `correlation_id: not UTF-8; headers.blob: nested deeper than 32 levels`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (part, what, _)) in self.described.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{part}: {what}")?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Replaces each byte that is not part of a UTF-8 character by `?`, so that the length stays the same.
pub(super) fn question_marks(bytes: &mut [u8]) {
    let mut from = 0;
    while let Err(error) = std::str::from_utf8(&bytes[from..]) {
        let bad = from + error.valid_up_to();
        let end = error.error_len().map_or(bytes.len(), |length| bad + length);
        bytes[bad..end].fill(b'?');
        from = end;
    }
}

/// The largest index up to `at` that is a character boundary of `text`.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The name of a header for errors and logs: at most 64 bytes of it. Control characters become question marks too,
/// because a name could otherwise end a line of the log and forge the next.
pub(super) fn shown(name: &[u8]) -> String {
    let mut name = name[..name.len().min(64)].to_vec();
    question_marks(&mut name);
    String::from_utf8_lossy(&name).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_message_is_bounded() {
        let mut faults = Faults::default();
        for n in 0..100 {
            faults.add(format!("headers.h{n}"), What::TooDeep, &[7; 1000]);
        }
        assert!(faults.parts().map(|(_, bytes)| bytes.len()).sum::<usize>() <= KEPT_OF_ALL);
        assert!(faults.to_string().ends_with("and 92 more"), "{faults}");
    }

    #[test]
    fn bytes_that_are_no_text_become_question_marks_in_place() {
        let mut bytes = *b"a\xe9b\xff\xfec";
        question_marks(&mut bytes);
        assert_eq!(&bytes, b"a?b??c");
        let mut good = "naïve — 日本".as_bytes().to_vec();
        question_marks(&mut good);
        assert_eq!(good, "naïve — 日本".as_bytes());
        let mut cut = "é".as_bytes()[..1].to_vec();
        question_marks(&mut cut);
        assert_eq!(cut, b"?");
        assert_eq!(shown(b"a\nERROR \x1b[31m\xff"), "a?ERROR ?[31m?");
    }
}
