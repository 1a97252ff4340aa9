//! The events of a tree, as they happen.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use crate::{
    escalation::{Escalation, GivingUp},
    exit::ExitReason,
};

/// Something that happened to a node of the tree.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened.
    pub at: Instant,
    /// The path of the node, such as `app/consume/socket`.
    pub path: Arc<str>,
    /// What happened.
    pub what: What,
}

/// What happened to a node. `Display` writes it in the words of a log line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// An incarnation was sent to its arbiter.
    Started {
        /// The number of the incarnation, from 1.
        incarnation: u64,
    },
    /// The node is ready for work.
    Ready,
    /// An incarnation ended.
    Exited {
        /// Why.
        reason: ExitReason,
    },
    /// The node waits before it is started again.
    Backoff {
        /// How long.
        delay: Duration,
        /// The number of the restart in a row that follows, from 1. The count starts again after a healthy spell.
        attempt: u32,
    },
    /// The node is started again; [`Started`](Self::Started) follows.
    Restarting,
    /// This supervisor gave up on a child and will end.
    Escalated {
        /// Which child, and why.
        escalation: Arc<Escalation>,
    },
    /// The node was asked to stop.
    StopRequested,
    /// The node is over for good: it will not be started again, and its mailbox is closed.
    Stopped,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { incarnation } => write!(f, "started (incarnation {incarnation})"),
            Self::Ready => f.write_str("ready"),
            Self::Exited { reason } => reason.fmt(f),
            Self::Backoff { delay, attempt } => {
                write!(f, "waits {delay:.0?} before restart {attempt} in a row")
            }
            Self::Restarting => f.write_str("restarting"),
            Self::Escalated { escalation } => write!(f, "gives up: {escalation}"),
            Self::StopRequested => f.write_str("asked to stop"),
            Self::Stopped => f.write_str("over for good"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

impl What {
    /// Logs the event: at `info` what a healthy tree does, at `warn` what the tree repairs itself, at `error` what it
    /// cannot repair.
    pub(crate) fn trace(&self, path: &str) {
        match self {
            Self::Started { incarnation } => {
                tracing::info!(target: TARGET, path, incarnation, "started")
            }
            Self::Ready => tracing::info!(target: TARGET, path, "ready"),
            Self::Exited { reason } if reason.is_normal() => {
                tracing::info!(target: TARGET, path, %reason, "exited")
            }
            // This failure was already logged in full where it began; each supervisor above it would only repeat it.
            Self::Exited { reason: ExitReason::Escalated(_) } => {
                tracing::debug!(target: TARGET, path, "exited: it gave up on a child")
            }
            Self::Exited { reason } if reason.is_permanent() => {
                tracing::error!(target: TARGET, path, %reason, "exited")
            }
            Self::Exited { reason } => tracing::warn!(target: TARGET, path, %reason, "exited"),
            Self::Backoff { delay, attempt } => {
                tracing::warn!(target: TARGET, path, ?delay, attempt, "backing off")
            }
            Self::Restarting => tracing::info!(target: TARGET, path, "restarting"),
            Self::Escalated { escalation } if escalation.cause() == GivingUp::Permanent => {
                tracing::debug!(target: TARGET, path, %escalation, "escalates")
            }
            Self::Escalated { escalation } => {
                tracing::error!(target: TARGET, path, %escalation, "escalates")
            }
            Self::StopRequested => tracing::debug!(target: TARGET, path, "stop requested"),
            Self::Stopped => tracing::info!(target: TARGET, path, "over"),
        }
    }
}

/// The `target` of every tracing event of this crate.
pub(crate) const TARGET: &str = "fluffle_supervise";

/// How many events a slow reader may fall behind before it misses some.
pub(crate) const BACKLOG: usize = 256;

/// The events of a supervisor and of everything below it, from the moment this stream was made.
///
/// A reader that falls more than 256 events behind misses the oldest and is told how many.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Event>);

/// The reader was too slow and missed this many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed: the reader was too slow")]
pub struct Missed(pub u64);

impl EventStream {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event. `None` when the supervisor is over for good and every event was read.
    ///
    /// Cancel-safe: dropping the future loses no event.
    ///
    /// # Errors
    /// [`Missed`] once after each gap; the stream goes on after it.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Missed(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
