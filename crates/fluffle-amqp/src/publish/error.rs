//! Why a publish failed. The error always carries the message.

use std::fmt;

use fluffle_store::AppendErrorKind;
use fluffle_wire::EncodeError;

use crate::{
    link::class::Class,
    publish::{confirm::Returned, travel::NotSent},
};

/// A publish that failed, with its message.
///
/// [`PublishErrorKind::Unknown`], [`PublishErrorKind::Closed`], [`PublishErrorKind::Waiting`] and
/// [`PublishErrorKind::Journaled`] leave open whether the broker has the message, or will have it. So does any refusal
/// of a message that was published again after a lost channel, because the first one may have arrived.
/// [`is_certainly_not_sent`](Self::is_certainly_not_sent) tells those apart from the rest.
///
/// ```
/// use fluffle_amqp::{Confirmed, MessageOptions, PublishError, PublishErrorKind, Publisher};
///
/// /// Publishes once more, under the same id, when it is unknown whether the first try arrived.
/// async fn twice(out: &Publisher<String>, text: String) -> Result<Confirmed, PublishError<String>> {
///     match out.publish(text).await {
///         Err(error) if matches!(error.kind(), PublishErrorKind::Unknown) => {
///             out.publish_with(error.message, MessageOptions::new().id(error.id)).await
///         }
///         done => done,
///     }
/// }
/// ```
pub struct PublishError<T> {
    /// The message, unchanged.
    pub message: T,
    /// The message's id. Publish it again under this id ([`MessageOptions::id`](crate::MessageOptions::id)), and
    /// consumers recognise the repetition.
    pub id: String,
    pub(crate) target: Box<str>,
    pub(crate) kind: PublishErrorKind,
}

/// What went wrong with a publish.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// The message cannot be encoded, or is over a limit. It was not sent.
    Encode(EncodeError),
    /// The message's routing key, headers or another property, named here, is longer than AMQP allows. The message was
    /// not sent.
    Property(&'static str),
    /// The message's headers and other properties do not fit one frame of the connection. The message was not sent.
    ///
    /// A frame has the smaller of two sizes: the one that the broker allows, and the one that the URI asks for
    /// (`frame_max`, 131,072 bytes unless the URI says otherwise).
    HeadersTooLarge {
        /// How many bytes they take on the wire.
        bytes: usize,
        /// How many bytes one frame of the connection has room for.
        most: usize,
    },
    /// No queue took the message, which was `mandatory` (AMQP `basic.return`).
    Returned(Returned),
    /// The broker refused responsibility (`basic.nack`), for instance because a queue with `overflow = reject-publish`
    /// is full.
    Nacked,
    /// The broker closed the channel over the message: no such exchange (404), or no permission (403).
    Refused {
        /// AMQP reply code.
        code: u16,
        /// The broker's text.
        text: String,
    },
    /// `try_enqueue` found no room in the mailbox, or the rate limit reached. The message was not sent.
    Full,
    /// The deadline passed before the mailbox had room, or before the rate limit let the message in. It was not sent.
    Overloaded,
    /// The deadline passed after the message was sent and before it was confirmed: it may have arrived, or not. After
    /// `publish` it is not sent again. After `enqueue` it is sent again after a lost channel, until it is settled.
    Unknown,
    /// The message was not sent, and will not be. Publishing it again cannot make a duplicate.
    NotSent(NotSent),
    /// The deadline passed before the message was sent. The publisher still has it, because it was enqueued or is in a
    /// batch, and sends it when it can: **do not publish it again**.
    Waiting,
    /// The publisher was shut down after the message was sent and before it was confirmed: it may have arrived.
    Closed,
    /// The message is in the publisher's journal. It was not confirmed within the deadline, or before the publisher was
    /// shut down. This process or the next publishes it when the broker is reachable: **do not publish it again**.
    Journaled,
    /// The message did not get into the publisher's journal, because the journal is full or the disk fails. It was not
    /// sent.
    Journal(AppendErrorKind),
}

impl<T> PublishError<T> {
    /// What went wrong.
    pub fn kind(&self) -> &PublishErrorKind {
        &self.kind
    }

    /// Whether publishing the same message again later may succeed, and how soon.
    pub fn class(&self) -> Class {
        match &self.kind {
            PublishErrorKind::Encode(_)
            | PublishErrorKind::Property(_)
            | PublishErrorKind::HeadersTooLarge { .. }
            | PublishErrorKind::Refused { .. } => Class::Permanent,
            PublishErrorKind::Returned(_) => Class::Permanent,
            PublishErrorKind::Nacked | PublishErrorKind::Full | PublishErrorKind::Overloaded => Class::Contention,
            PublishErrorKind::Journal(AppendErrorKind::TooLarge { .. } | AppendErrorKind::IdTooLong { .. }) => {
                Class::Permanent
            }
            PublishErrorKind::Journal(AppendErrorKind::Full { .. }) => Class::Contention,
            PublishErrorKind::Unknown
            | PublishErrorKind::NotSent(_)
            | PublishErrorKind::Waiting
            | PublishErrorKind::Closed
            | PublishErrorKind::Journaled
            | PublishErrorKind::Journal(_) => Class::Transient,
        }
    }

    /// Whether the message was not sent to any broker, and will not be sent because of this call. Publishing it again
    /// cannot make a duplicate. A web server answers 503, "try again", in this case, and 504, "the outcome is unknown",
    /// otherwise.
    ///
    /// ```
    /// use fluffle_amqp::{PublishError, PublishErrorKind};
    ///
    /// fn status(error: &PublishError<String>) -> u16 {
    ///     match error.kind() {
    ///         PublishErrorKind::Encode(_) | PublishErrorKind::Property(_) => 400,
    ///         PublishErrorKind::Journaled | PublishErrorKind::Waiting => 202, // the publisher sends it
    ///         _ if error.is_certainly_not_sent() => 503,
    ///         _ => 504,
    ///     }
    /// }
    /// ```
    pub fn is_certainly_not_sent(&self) -> bool {
        match &self.kind {
            PublishErrorKind::Encode(_)
            | PublishErrorKind::Property(_)
            | PublishErrorKind::HeadersTooLarge { .. }
            | PublishErrorKind::Full
            | PublishErrorKind::Overloaded
            | PublishErrorKind::NotSent(_)
            | PublishErrorKind::Journal(_) => true,
            PublishErrorKind::Returned(_)
            | PublishErrorKind::Nacked
            | PublishErrorKind::Refused { .. }
            | PublishErrorKind::Unknown
            | PublishErrorKind::Waiting
            | PublishErrorKind::Closed
            | PublishErrorKind::Journaled => false,
        }
    }

    /// Whether the [class](Self::class) is any other than [`Class::Permanent`].
    pub fn is_transient(&self) -> bool {
        self.class() != Class::Permanent
    }
}

impl<T> fmt::Display for PublishError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} to {} was not published: {}", self.id, self.target, self.kind)
    }
}

impl fmt::Display for PublishErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishErrorKind::Encode(error) => write!(f, "{error}"),
            PublishErrorKind::Property(name) => {
                write!(f, "its {name} is longer than allowed (255 bytes; 32 KiB for all headers together): shorten it")
            }
            PublishErrorKind::HeadersTooLarge { bytes, most } => write!(
                f,
                "its headers and other properties take {bytes} bytes, and one frame of this connection has room for \
                 {most}: shorten its headers, or raise `frame_max`, in the broker's URI and in rabbitmq.conf"
            ),
            PublishErrorKind::Returned(Returned { code, text }) => {
                write!(f, "no queue took it ({code} {text}): bind a queue, or use `mandatory(false)` if that is fine")
            }
            PublishErrorKind::Nacked => {
                f.write_str("the broker refused it (basic.nack): the queue may be full with overflow = reject-publish")
            }
            PublishErrorKind::Refused { code, text } => {
                write!(
                    f,
                    "the broker closed the channel over it ({code} {text}): declare what is missing, or permit it"
                )
            }
            PublishErrorKind::Full => {
                f.write_str("the publisher's mailbox is full, or its rate limit is reached: use `enqueue`, which waits")
            }
            PublishErrorKind::Overloaded => f.write_str(
                "the publisher's mailbox had no room within the deadline: is the broker unreachable, does it block \
                     publishers, or is the rate limit too low?",
            ),
            PublishErrorKind::Unknown => f.write_str(
                "no confirm within the deadline, so it may or may not have arrived: publish it again only under the \
                 same id",
            ),
            PublishErrorKind::NotSent(why) => write!(f, "{why}"),
            PublishErrorKind::Waiting => f.write_str(
                "it was not sent before its deadline, and the publisher sends it when it can: do not publish it \
                 again",
            ),
            PublishErrorKind::Closed => f.write_str(
                "the publisher was shut down before the broker confirmed it, so it may or may not have arrived: \
                     publish it again only under the same id",
            ),
            PublishErrorKind::Journaled => {
                f.write_str("it is not confirmed yet, but in the journal, which publishes it: do not publish it again")
            }
            PublishErrorKind::Journal(error) => write!(f, "it did not get into the journal: {error}"),
        }
    }
}

impl<T> fmt::Debug for PublishError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishError")
            .field("id", &self.id)
            .field("target", &self.target)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> std::error::Error for PublishError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl std::error::Error for PublishErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PublishErrorKind::Encode(error) => Some(error),
            PublishErrorKind::Journal(error) => Some(error),
            _ => None,
        }
    }
}
