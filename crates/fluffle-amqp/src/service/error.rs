//! Why a service could not take something on, or ended.

use std::{fmt, sync::Arc, time::Duration};

use fluffle_supervise::{ExitError, ExitReason, StartChildError};

use crate::{consume::spec::contradictions::Contradiction, link::pool::PoolError, topology::TopologyError};

/// Why something could not be added to a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No channel is to be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The queues that a consumer needs beside its own contradict the application's topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// An actor of the application's own was not started.
    #[error(transparent)]
    Supervise(#[from] StartChildError),
    /// A publisher's journal is another publisher's already.
    #[error("publisher `{0}` cannot have its journal: another publisher has it; open one for each")]
    JournalInUse(String),
    /// Settings that exclude one another.
    #[error("`{of}` cannot be added: {why}")]
    Contradiction {
        /// The consumer's queue, or the publisher's name.
        of: String,
        /// Which settings, and what to do.
        why: &'static str,
    },
    /// Consumers of different types on one queue.
    #[error(
        "queue `{queue}` cannot have consumers of both `{}` and `{}`: the broker deals its messages out among its \
         consumers, and each would dead-letter the other's; give each type a queue of its own, bound to what both come \
         from",
        types[0], types[1]
    )]
    TwoTypes {
        /// The queue.
        queue: String,
        /// The type that is consumed from it already, and the other one.
        types: [&'static str; 2],
    },
    /// No consumer of this service takes messages from that queue.
    #[error("no consumer of queue `{queue}` in this service: {}", tell_known(known))]
    UnknownConsumer {
        /// The queue that was asked for.
        queue: String,
        /// The queues that this service has consumers of.
        known: Vec<String>,
    },
    /// A consumer is paused, and not at rest yet.
    #[error(
        "the consumers of queue `{queue}` are paused and take nothing more, but after {waited:?} {left} messages are \
         still in hand: they go on; call `pause_consumer` again to wait for them, and see \
         `Consume::handler_timeout` for handlers that hang"
    )]
    StillInHand {
        /// The queue.
        queue: String,
        /// Messages that handlers have, or that are not settled; 0 when the broker has not answered yet.
        left: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// A consumer was removed before its handlers had finished.
    #[error(
        "the consumers of queue `{queue}` are removed, but after {waited:?} {left} messages were still in hand: they \
         were cut off, and the broker delivers again what was not acked; give handlers more time \
         with `App::drain_within`"
    )]
    CutOff {
        /// The queue.
        queue: String,
        /// Messages that handlers had, or that were not settled.
        left: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// The service is over.
    #[error("cannot add `{0}`: the service has ended")]
    Ended(String),
    /// No thread could be started.
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

/// Why a service ended by itself.
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

/// The error at the bottom of the chain, in the words of whoever met it: one line. Its sources would only say it again.
impl fmt::Display for ServiceEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.error() {
            Some(error) => write!(f, "{error}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for ServiceEnd {}
