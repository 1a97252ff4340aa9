//! Why a request got no answer. The error always carries the request.

use std::fmt;

use fluffle_wire::{DecodeError, EncodeError};

use crate::{
    link::class::Class,
    publish::{confirm::Returned, travel::NotSent},
};

/// A request that got no answer.
pub struct RequestError<Q> {
    /// The request, unchanged.
    pub request: Q,
    pub(crate) target: String,
    pub(crate) kind: RequestErrorKind,
}

/// Why a request got no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The request cannot be encoded, or is over a limit. It was not sent.
    Encode(EncodeError),
    /// The request's routing key, or another property named here, is longer than AMQP allows. The request was not sent.
    Property(&'static str),
    /// The request's properties do not fit one frame of the connection. The request was not sent.
    HeadersTooLarge {
        /// How many bytes they take on the wire.
        bytes: usize,
        /// How many bytes one frame of the connection has room for.
        most: usize,
    },
    /// The deadline passed before there was room for the request, or before the rate limit let it in. It was not sent.
    Overloaded,
    /// No queue took the request (AMQP `basic.return`).
    Returned(Returned),
    /// The broker refused responsibility for the request (`basic.nack`).
    Nacked,
    /// The request was sent, and no answer came before the deadline. It may have been handled, or may be later; its
    /// answer is dropped.
    TimedOut,
    /// The channel was lost before the answer came, which can no longer arrive. The request may have been handled.
    ConnectionLost,
    /// The handler, or its consumer, refused the request. The same request would be refused again.
    Refused {
        /// `rejected` (the handler's own answer), or `undecodable`.
        reason: String,
        /// The handler's error.
        error: String,
    },
    /// The handler failed or crashed. Parts of its work may be done. The same request may succeed later.
    Failed {
        /// `failed`, `crashed`; `attempts-exhausted` or `delivery-limit` where requests are retried.
        reason: String,
        /// The handler's error.
        error: String,
    },
    /// The answer is not what this requester expects.
    Undecodable(DecodeError),
    /// A property of the answer cannot be read, so that its body may be misread. The text names the property and says
    /// why.
    Unreadable(String),
    /// The request was not sent, and will not be. Sending it again cannot make a duplicate.
    NotSent(NotSent),
    /// The requester was shut down before the answer came. The request may have been handled.
    Closed,
}

impl<Q> RequestError<Q> {
    /// What went wrong.
    pub fn kind(&self) -> &RequestErrorKind {
        &self.kind
    }

    /// Whether the same request may be answered later.
    pub fn class(&self) -> Class {
        match &self.kind {
            RequestErrorKind::Encode(_)
            | RequestErrorKind::Property(_)
            | RequestErrorKind::HeadersTooLarge { .. }
            | RequestErrorKind::Returned(_)
            | RequestErrorKind::Refused { .. }
            | RequestErrorKind::Undecodable(_)
            | RequestErrorKind::Unreadable(_) => Class::Permanent,
            RequestErrorKind::Overloaded | RequestErrorKind::Nacked => Class::Contention,
            RequestErrorKind::Failed { .. }
            | RequestErrorKind::TimedOut
            | RequestErrorKind::ConnectionLost
            | RequestErrorKind::NotSent(_)
            | RequestErrorKind::Closed => Class::Transient,
        }
    }

    /// Whether the request was not sent to any broker, and will not be. Sending it again cannot make a duplicate.
    pub fn is_certainly_not_sent(&self) -> bool {
        match &self.kind {
            RequestErrorKind::Encode(_)
            | RequestErrorKind::Property(_)
            | RequestErrorKind::HeadersTooLarge { .. }
            | RequestErrorKind::Overloaded
            | RequestErrorKind::NotSent(_) => true,
            RequestErrorKind::Returned(_)
            | RequestErrorKind::Nacked
            | RequestErrorKind::TimedOut
            | RequestErrorKind::ConnectionLost
            | RequestErrorKind::Refused { .. }
            | RequestErrorKind::Failed { .. }
            | RequestErrorKind::Undecodable(_)
            | RequestErrorKind::Unreadable(_)
            | RequestErrorKind::Closed => false,
        }
    }

    /// Whether the [class](Self::class) is any other than [`Class::Permanent`].
    pub fn is_transient(&self) -> bool {
        self.class() != Class::Permanent
    }
}

impl<Q> fmt::Display for RequestError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request to {}: ", self.target)?;
        match &self.kind {
            RequestErrorKind::Encode(error) => write!(f, "{error}"),
            RequestErrorKind::Property(name) => write!(f, "its {name} is longer than the 255 bytes that AMQP allows"),
            RequestErrorKind::HeadersTooLarge { bytes, most } => {
                write!(f, "its properties take {bytes} bytes, and one frame of this connection has room for {most}")
            }
            RequestErrorKind::Overloaded => f.write_str(
                "the requester had no room for it within the deadline: is the broker unreachable, or are too many \
                 requests open?",
            ),
            RequestErrorKind::Returned(Returned { code, text }) => {
                write!(f, "no queue took it ({code} {text}): is a consumer of these requests running?")
            }
            RequestErrorKind::Nacked => f.write_str("the broker refused it (basic.nack)"),
            RequestErrorKind::TimedOut => {
                f.write_str("no answer within the deadline: it may have been handled, or may be later")
            }
            RequestErrorKind::ConnectionLost => {
                f.write_str("the channel was lost before the answer came: it may have been handled")
            }
            RequestErrorKind::Refused { reason, error } => write!(f, "refused by its handler ({reason}): {error}"),
            RequestErrorKind::Failed { reason, error } => write!(f, "its handler failed ({reason}): {error}"),
            RequestErrorKind::Undecodable(error) => write!(f, "the answer cannot be read: {error}"),
            RequestErrorKind::Unreadable(what) => write!(f, "a property of the answer cannot be read: {what}"),
            RequestErrorKind::NotSent(why) => write!(f, "{why}"),
            RequestErrorKind::Closed => {
                f.write_str("the requester was shut down before the answer came: it may have been handled")
            }
        }
    }
}

impl<Q> fmt::Debug for RequestError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestError").field("target", &self.target).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<Q> std::error::Error for RequestError<Q> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            RequestErrorKind::Encode(error) => Some(error),
            RequestErrorKind::Undecodable(error) => Some(error),
            _ => None,
        }
    }
}
