//! Why a request got no answer. The request comes back with it.

use std::fmt;

use fluffle_wire::{DecodeError, EncodeError};

use crate::{
    link::class::Class,
    publish::{confirm::Returned, travel::NotSent},
};

/// A request without an answer, with the request.
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
    /// The request cannot be encoded, or is over a limit; nothing was sent.
    Encode(EncodeError),
    /// The request's routing key is too long for AMQP; nothing was sent.
    Property(&'static str),
    /// The request's properties do not fit one frame of the connection; nothing was sent.
    HeadersTooLarge {
        /// What they take on the wire, in bytes.
        bytes: usize,
        /// What one frame of the connection has room for, in bytes.
        most: usize,
    },
    /// No room for it before the deadline; nothing was sent.
    Overloaded,
    /// No queue took it.
    Returned(Returned),
    /// The broker refused it (`basic.nack`).
    Nacked,
    /// It was sent, and no answer came before the deadline. The request may have been handled, or may be yet; its answer is dropped.
    TimedOut,
    /// The channel was lost while waiting: the answer can no longer arrive. The request may have been handled.
    ConnectionLost,
    /// The handler's side said no: asking again would not help.
    Refused {
        /// `rejected` (the handler's own answer), or `undecodable`.
        reason: String,
        /// The handler's error.
        error: String,
    },
    /// The handler failed or crashed; asked again, it may not. Parts of its work may be done.
    Failed {
        /// `failed`, `crashed`; `attempts-exhausted` or `delivery-limit` where requests are retried.
        reason: String,
        /// The handler's error.
        error: String,
    },
    /// The answer is not what this requester expects.
    Undecodable(DecodeError),
    /// A property of the answer cannot be read, this one for this reason, so its body may be something else than it seems.
    Unreadable(String),
    /// It was not sent, and will not be: asking again makes no second question.
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

    /// Whether no broker has ever heard of the request, nor will: asking again makes no second question.
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

    /// Anything but [`Class::Permanent`].
    pub fn is_transient(&self) -> bool {
        self.class() != Class::Permanent
    }
}

impl<Q> fmt::Display for RequestError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request to {}: ", self.target)?;
        match &self.kind {
            RequestErrorKind::Encode(error) => write!(f, "{error}"),
            RequestErrorKind::Property(name) => write!(f, "its {name} is longer than the 255 bytes AMQP allows"),
            RequestErrorKind::HeadersTooLarge { bytes, most } => {
                write!(f, "its properties take {bytes} bytes, and one frame of this connection has room for {most}")
            }
            RequestErrorKind::Overloaded => f.write_str("no room for it within the deadline"),
            RequestErrorKind::Returned(Returned { code, text }) => write!(f, "no queue took it ({code} {text})"),
            RequestErrorKind::Nacked => f.write_str("the broker refused it (basic.nack)"),
            RequestErrorKind::TimedOut => f.write_str("no answer within the deadline"),
            RequestErrorKind::ConnectionLost => f.write_str("the channel was lost while waiting for the answer"),
            RequestErrorKind::Refused { reason, error } => write!(f, "refused by its handler ({reason}): {error}"),
            RequestErrorKind::Failed { reason, error } => write!(f, "its handler failed ({reason}): {error}"),
            RequestErrorKind::Undecodable(error) => write!(f, "the answer cannot be read: {error}"),
            RequestErrorKind::Unreadable(what) => write!(f, "the answer's properties cannot be read: {what}"),
            RequestErrorKind::NotSent(why) => write!(f, "{why}"),
            RequestErrorKind::Closed => f.write_str("the requester was shut down before the answer came"),
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
