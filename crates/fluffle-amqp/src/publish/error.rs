//! Why a publish failed. The message always comes back with it.

use std::fmt;

use fluffle_store::AppendErrorKind;
use fluffle_wire::EncodeError;

use crate::{
    link::class::Class,
    publish::{confirm::Returned, travel::NotSent},
};

/// A publish that failed, with the message it was about.
///
/// [`PublishErrorKind::Unknown`], [`PublishErrorKind::Closed`], [`PublishErrorKind::Waiting`] and
/// [`PublishErrorKind::Journaled`] leave open whether the broker has the message, or will have it. So does any refusal
/// of one that had been published again after a lost channel: the first time may have arrived.
/// [`is_certainly_not_sent`](Self::is_certainly_not_sent) tells the others.
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
    /// Its id: publish it again under this id ([`MessageOptions::id`](crate::MessageOptions::id)) and consumers can
    /// tell.
    pub id: String,
    pub(crate) target: Box<str>,
    pub(crate) kind: PublishErrorKind,
}

/// What went wrong with a publish.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// The message cannot be encoded, or is over a limit; nothing was sent.
    Encode(EncodeError),
    /// The message's routing key, headers or another property is too long for AMQP; nothing was sent.
    Property(&'static str),
    /// The message's headers and other properties do not fit one frame of the connection; nothing was sent.
    ///
    /// The frame is the smaller of what the broker allows and what the URI asks for (`frame_max`, 131,072 bytes unless it says
    /// otherwise).
    HeadersTooLarge {
        /// What they take on the wire, in bytes.
        bytes: usize,
        /// What one frame of the connection has room for, in bytes.
        most: usize,
    },
    /// No queue took it (`mandatory`, AMQP `basic.return`).
    Returned(Returned),
    /// The broker refused responsibility (`basic.nack`), for instance a full queue with `overflow = reject-publish`.
    Nacked,
    /// The broker closed the channel over it: no such exchange (404), no permission (403).
    Refused {
        /// AMQP reply code.
        code: u16,
        /// The broker's text.
        text: String,
    },
    /// There was no room in the mailbox, or the rate limit would not let it (`try_enqueue`); nothing was sent.
    Full,
    /// The deadline passed before it was accepted into the mailbox, for want of room or for the rate limit; nothing was
    /// sent.
    Overloaded,
    /// The deadline passed when it had been sent and was not confirmed: it may have arrived, or not. After `publish` it
    /// is not tried again; after `enqueue` it is, until it is settled.
    Unknown,
    /// It was not sent, and will not be: publishing it again makes no second one.
    NotSent(NotSent),
    /// The deadline passed before it was sent. The publisher still has it, because it was enqueued or is in a batch,
    /// and sends it when it can: **do not publish it again**.
    Waiting,
    /// The publisher was shut down when it had been sent and was not confirmed: it may have arrived.
    Closed,
    /// It is in the publisher's journal, and not confirmed within the deadline, or before the publisher was shut down.
    /// It is published when the broker is there, by this process or the next: **do not publish it again**.
    Journaled,
    /// It did not get into the publisher's journal, and was not sent: the journal is full, or the disk fails.
    Journal(AppendErrorKind),
}

impl<T> PublishError<T> {
    /// What went wrong.
    pub fn kind(&self) -> &PublishErrorKind {
        &self.kind
    }

    /// Whether publishing the same message again later may succeed.
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

    /// Whether no broker has ever heard of the message, nor will by what was asked here. Publishing it again makes no
    /// second one; for a web server that is 503, "try again", where the others are 504, "nobody knows".
    ///
    /// ```
    /// use fluffle_amqp::{PublishError, PublishErrorKind};
    ///
    /// fn status(error: &PublishError<String>) -> u16 {
    ///     match error.kind() {
    ///         PublishErrorKind::Encode(_) | PublishErrorKind::Property(_) => 400,
    ///         PublishErrorKind::Journaled | PublishErrorKind::Waiting => 202, // it is on its way
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

    /// Anything but [`Class::Permanent`].
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
                write!(f, "its {name} is longer than AMQP allows (255 bytes; 32 KiB for all headers together)")
            }
            PublishErrorKind::HeadersTooLarge { bytes, most } => write!(
                f,
                "its headers and other properties take {bytes} bytes, and one frame of this connection has room for {most}: \
                 shorten its headers, or raise `frame_max`, in the broker's URI and in rabbitmq.conf"
            ),
            PublishErrorKind::Returned(Returned { code, text }) => {
                write!(f, "no queue took it ({code} {text}): bind a queue, or use `mandatory(false)` if that is fine")
            }
            PublishErrorKind::Nacked => {
                f.write_str("the broker refused it (basic.nack): the queue may be full with overflow = reject-publish")
            }
            PublishErrorKind::Refused { code, text } => {
                write!(f, "the broker closed the channel over it: {code} {text}")
            }
            PublishErrorKind::Full => f.write_str("the publisher's mailbox is full, or its rate limit reached"),
            PublishErrorKind::Overloaded => {
                f.write_str(
                "no room in the publisher's mailbox within the deadline: is the broker away, or blocking, or the rate limit low?",
            )
            }
            PublishErrorKind::Unknown => f.write_str("no confirm within the deadline: it may or may not have arrived"),
            PublishErrorKind::NotSent(why) => write!(f, "{why}"),
            PublishErrorKind::Waiting => f.write_str(
                "it is not sent yet, and its deadline has passed; the publisher sends it when it can: do not publish it again",
            ),
            PublishErrorKind::Closed => {
                f.write_str("the publisher was shut down before the broker confirmed it: it may or may not have arrived")
            }
            PublishErrorKind::Journaled => {
                f.write_str("it is not confirmed yet; it is in the journal and will be: do not publish it again")
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
