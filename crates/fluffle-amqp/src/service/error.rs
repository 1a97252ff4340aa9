//! Errors of a service: why a call failed, and why the service ended.

use std::{fmt, sync::Arc, time::Duration};

use fluffle_supervise::{ExitError, ExitReason, StartChildError};

use crate::{consume::spec::contradictions::Contradiction, link::pool::PoolError, topology::TopologyError};

/// Why a call to a [`Service`](crate::Service) failed, such as adding, pausing or removing one of its parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A second reader of a stream has the name of one that this service has.
    #[error(
        "this service reads `{reader}` (`<stream>.<reader>`) already, and both would keep their offset under that \
         name: give the second reader another name"
    )]
    ReadTwice {
        /// The stream and the name of the reader.
        reader: String,
    },
    /// No channel became free within the pool's `acquire_timeout`.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The topology is invalid, or the retry and dead-letter queues that a consumer needs contradict it.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The application's own actor was not started.
    #[error(transparent)]
    Supervise(#[from] StartChildError),
    /// Another publisher uses this publisher's journal already.
    #[error("publisher `{0}` cannot use its journal, because another publisher has it; open a journal for each")]
    JournalInUse(String),
    /// Two settings exclude one another.
    #[error("`{of}` cannot be added: {why}")]
    Contradiction {
        /// The consumer's queue, or the publisher's name.
        of: String,
        /// Which settings exclude one another, and what to do.
        why: std::borrow::Cow<'static, str>,
    },
    /// The same queue would have consumers of different message types.
    #[error(
        "queue `{queue}` cannot have consumers of both `{}` and `{}`: the broker distributes its messages among all \
         its consumers, so each would dead-letter the other's messages; give each type a queue of its own, \
         bound to the exchange that its messages are published to",
        types[0], types[1]
    )]
    TwoTypes {
        /// The queue.
        queue: String,
        /// The type that is consumed from the queue already, and the type that was refused.
        types: [&'static str; 2],
    },
    /// This service has no consumer of that queue.
    #[error("no consumer of queue `{queue}` in this service: {}", tell_known(known))]
    UnknownConsumer {
        /// The queue that the caller named.
        queue: String,
        /// The queues that this service has consumers of.
        known: Vec<String>,
    },
    /// The consumer is paused, but it still had messages in hand when the time limit was over.
    #[error(
        "the consumers of queue `{queue}` are paused and take no more messages, but after {waited:?} {left} messages \
         are still in hand; their handlers go on: call `pause_consumer` again to wait for them, and see \
         `Consume::handler_timeout` for handlers that hang"
    )]
    StillInHand {
        /// The queue.
        queue: String,
        /// The number of messages that handlers have, or that are not settled. 0 if only the broker's answer is
        /// missing.
        left: usize,
        /// The time limit, which is over.
        waited: Duration,
    },
    /// The consumer was removed before its handlers had finished.
    #[error(
        "the consumers of queue `{queue}` are removed, but after {waited:?} {left} messages were still in hand: they \
         were cut off, and the broker delivers the unacked ones again; give handlers more time with \
         `App::drain_within`"
    )]
    CutOff {
        /// The queue.
        queue: String,
        /// The number of messages that handlers had, or that were not settled.
        left: usize,
        /// The time limit, which is over.
        waited: Duration,
    },
    /// The service has ended.
    #[error("cannot add `{0}`: the service has ended")]
    Ended(String),
    /// The operating system could not start a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl From<Contradiction> for ServiceError {
    fn from(Contradiction { of, why }: Contradiction) -> Self {
        Self::Contradiction { of, why }
    }
}

fn tell_known(known: &[String]) -> String {
    match known {
        [] => "it has no consumers".to_owned(),
        known => format!("it has consumers of `{}`", known.join("`, `")),
    }
}

/// Why a service ended without a shutdown.
#[derive(Debug)]
pub struct ServiceEnd(pub(crate) ExitReason);

impl ServiceEnd {
    pub(crate) fn failed(why: String) -> Self {
        Self(ExitReason::Failed(Arc::new(ExitError::permanent(why))))
    }

    /// The exit reason of the tree's root, with the whole chain of causes.
    pub fn reason(&self) -> &ExitReason {
        &self.0
    }
}

/// Shows the error at the bottom of the chain of causes, in one line. The error's sources are not shown, because its
/// text contains theirs. If the chain has no error, for example after a panic, shows the exit reason.
impl fmt::Display for ServiceEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.error() {
            Some(error) => write!(f, "{error}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for ServiceEnd {}
