//! The error of a message that got no reply.

use std::fmt;

/// Why a message got no reply. A message that was never handled comes back in the error.
///
/// `M` need not be `Debug`: neither `Debug` nor `Display` shows the message.
pub enum SendError<M> {
    /// The mailbox has no room now. Only from [`try_post`](crate::SupervisedAddr::try_post).
    Full(M),
    /// The sender's limit was over before the actor took the message: it will not be handled.
    TimedOut(M),
    /// The child is over for good: the message was not and will not be handled.
    Closed(M),
    /// The sender's limit was over while the actor was handling the message: the actor may still finish it, but the
    /// reply is lost.
    TimedOutInHand,
    /// The actor took the message and will not reply: it crashed or stopped while handling the message, or dropped the
    /// reply. How far the actor got is not known.
    Crashed,
}

/// A [`SendError`] without the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// See [`SendError::Full`].
    Full,
    /// See [`SendError::TimedOut`].
    TimedOut,
    /// See [`SendError::Closed`].
    Closed,
    /// See [`SendError::TimedOutInHand`].
    TimedOutInHand,
    /// See [`SendError::Crashed`].
    Crashed,
}

impl<M> SendError<M> {
    /// The message, if it was not handled.
    #[must_use]
    pub fn into_message(self) -> Option<M> {
        match self {
            Self::Full(msg) | Self::TimedOut(msg) | Self::Closed(msg) => Some(msg),
            Self::TimedOutInHand | Self::Crashed => None,
        }
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        match self {
            Self::Full(_) => SendErrorKind::Full,
            Self::TimedOut(_) => SendErrorKind::TimedOut,
            Self::Closed(_) => SendErrorKind::Closed,
            Self::TimedOutInHand => SendErrorKind::TimedOutInHand,
            Self::Crashed => SendErrorKind::Crashed,
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the actor's mailbox is full: wait for room with send or post, or send less",
            Self::TimedOut => "the actor did not take the message in time",
            Self::Closed => "the actor is over for good and takes no more messages",
            Self::TimedOutInHand => "the actor took the message but did not answer in time",
            Self::Crashed => "the actor took the message and ended, or dropped the reply, before it answered",
        })
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendError").field(&self.kind()).finish()
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

impl<M> std::error::Error for SendError<M> {}
