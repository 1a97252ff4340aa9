//! The headers that Fluffle reads and writes, and types for their values.
//!
//! The module uses no AMQP client's types: a value is a [`HeaderValue`], and reading takes a function from a name to a
//! value, so any header table works. Headers come from outside, so an invalid value never fails a delivery. Each type
//! documents what it does with invalid values.
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
mod item_traces;
mod item_types;
mod trace;

pub use attempt::Attempt;
pub use dead_letter::{DeadLetterInfo, Origin, Reason, error_chain, millis};
pub use item_traces::ItemTraces;
pub use item_types::ItemTypes;
pub use trace::{InvalidTrace, TraceContext};

/// W3C Trace Context: the span that sent this message.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context: data that tracing systems add to the span.
pub const TRACESTATE: &str = "tracestate";
/// On a batch: the spans that sent its items, if they are not all the one in [`TRACEPARENT`]. See [`ItemTraces`].
pub const ITEM_TRACES: &str = "x-fluffle-item-traces";
/// On a batch whose items are of several types: their types. See [`ItemTypes`].
pub const ITEM_TYPES: &str = "x-fluffle-item-types";
/// On a retry copy or dead letter: the span of the attempt before, in the form of [`TRACEPARENT`]. That header keeps
/// the span that sent the message. Absent if the attempt had no span.
pub const ATTEMPT_TRACE: &str = "x-fluffle-attempt-trace";
/// The number of this attempt to handle the message, from 1. See [`Attempt`].
pub const ATTEMPT: &str = "x-fluffle-attempt";
/// On a dead letter: why the message became one. See [`Reason`].
pub const REASON: &str = "x-fluffle-reason";
/// On a retry copy or dead letter: the last error and its causes.
pub const ERROR: &str = "x-fluffle-error";
/// On a retry copy or dead letter: the exchange to which the message was first published. Empty for the default
/// exchange.
pub const ORIGIN_EXCHANGE: &str = "x-fluffle-origin-exchange";
/// On a retry copy or dead letter: the routing key with which the message was first published.
pub const ORIGIN_KEY: &str = "x-fluffle-origin-key";
/// On a retry copy or dead letter: the queue from which the message was consumed.
pub const ORIGIN_QUEUE: &str = "x-fluffle-origin-queue";
/// On a retry copy or dead letter: when the message was first delivered, in milliseconds since 1970-01-01 UTC.
pub const FIRST_SEEN: &str = "x-fluffle-first-seen";
/// On a retry copy: when it was made, in milliseconds since 1970-01-01 UTC.
pub const RETRIED_AT: &str = "x-fluffle-retried-at";
/// On a message that was sent again on purpose: a value that distinguishes it from the original, which may already have
/// been handled. See `docs/WIRE.md`.
pub const REPLAY: &str = "x-fluffle-replay";

/// On a retry copy of a request: until when the requester waits, in milliseconds since 1970-01-01 UTC.
pub const DEADLINE: &str = "x-fluffle-deadline";
/// On a dead letter: a description of the parts of the message that the AMQP client could not read.
pub const UNREADABLE: &str = "x-fluffle-unreadable";
/// On a dead letter: for each part that could not be read, by its name, the beginning of its bytes.
pub const UNREADABLE_BYTES: &str = "x-fluffle-unreadable-bytes";
/// On any message: the names of the headers that were shortened or left out because all headers together did not fit
/// into one frame.
pub const SHORTENED: &str = "x-fluffle-shortened";

/// The value of a header. It has only the types that these headers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    /// Text: AMQP's long string (`S`).
    Str(&'a str),
    /// A number: written as AMQP's 64-bit integer (`l`), read from any of AMQP's integer types.
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

    /// The number. Text that is a decimal number counts too, because some clients write every header as text.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Str(text) => text.trim().parse().ok(),
            Self::Int(number) => Some(*number),
        }
    }
}
