//! The headers Fluffle reads and writes, and types for their values.
//!
//! No AMQP client's types: a value is a [`HeaderValue`], and reading takes a function from a name to a value, so any
//! header table will do. Headers come from outside: nonsense in one never fails a delivery. What each type does with
//! nonsense is said there.
//!
//! ```
//! use fluffle_wire::headers::{self, Attempt, HeaderValue};
//! use std::collections::HashMap;
//!
//! let table = HashMap::from([(headers::ATTEMPT, HeaderValue::Int(3))]);
//! let attempt = Attempt::read(|name| table.get(name).copied());
//! assert_eq!(attempt.get(), 3);
//! assert_eq!(attempt.next().header(), (headers::ATTEMPT, HeaderValue::Int(4)));
//! ```

mod attempt;
mod dead_letter;
mod trace;

pub use attempt::Attempt;
pub use dead_letter::{DeadLetterInfo, Origin, Reason, error_chain};
pub use trace::{InvalidTrace, TraceContext};

/// W3C Trace Context: which span sent this message.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context: what tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";
/// Which attempt at handling this message is, from 1. See [`Attempt`].
pub const ATTEMPT: &str = "x-fluffle-attempt";
/// On a dead letter: why. See [`Reason`].
pub const REASON: &str = "x-fluffle-reason";
/// On a retry copy or dead letter: the last error and its causes.
pub const ERROR: &str = "x-fluffle-error";
/// On a retry copy or dead letter: the exchange the message was first published to; empty for the default exchange.
pub const ORIGIN_EXCHANGE: &str = "x-fluffle-origin-exchange";
/// On a retry copy or dead letter: the routing key the message was first published with.
pub const ORIGIN_KEY: &str = "x-fluffle-origin-key";
/// On a retry copy or dead letter: the queue it was consumed from.
pub const ORIGIN_QUEUE: &str = "x-fluffle-origin-queue";
/// On a retry copy or dead letter: when it was first delivered, in milliseconds since 1970-01-01 UTC.
pub const FIRST_SEEN: &str = "x-fluffle-first-seen";
/// On a message sent again on purpose: what tells it from the original, which may have been handled. See `docs/WIRE.md`.
pub const REPLAY: &str = "x-fluffle-replay";

/// On a retry copy of a request: until when its asker waits, in milliseconds since 1970-01-01 UTC.
pub const DEADLINE: &str = "x-fluffle-deadline";
/// On a dead letter: what of the message could not be read, in words, where the AMQP client could not read it.
pub const UNREADABLE: &str = "x-fluffle-unreadable";
/// On a dead letter: the beginning of each part of the message that could not be read, as bytes, by its name.
pub const UNREADABLE_BYTES: &str = "x-fluffle-unreadable-bytes";
/// On any message: the names of headers that were shortened or left out, because all of them did not fit into one frame.
pub const SHORTENED: &str = "x-fluffle-shortened";

/// The value of a header, as far as these headers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    /// Text: AMQP's long string (`S`).
    Str(&'a str),
    /// A number: AMQP's 64-bit integer (`l`); read from any of its integer kinds.
    Int(i64),
}

impl<'a> HeaderValue<'a> {
    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Int(_) => None,
        }
    }

    /// The number; also of text that is a decimal number, since some languages write every header as text.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Str(text) => text.trim().parse().ok(),
            Self::Int(number) => Some(*number),
        }
    }
}
