//! What happened in a tree, as it happens.

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
    /// When.
    pub at: Instant,
    /// To which node, such as `app/consume/socket`.
    pub path: Arc<str>,
    /// What.
    pub what: What,
}

/// What happened to a node. `Display` says it as in a log line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// An incarnation was sent to its arbiter.
    Started {
        /// Which one, from 1.
        incarnation: u64,
    },
    /// It is ready for work.
    Ready,
    /// An incarnation ended.
    Exited {
        /// Why.
        reason: ExitReason,
    },
    /// It waits before it is started again.
    Backoff {
        /// How long.
        delay: Duration,
        /// Which restart in a row this will be, from 1; the count starts over after a healthy spell.
        attempt: u32,
    },
    /// It is started again; [`Started`](Self::Started) follows.
    Restarting,
    /// This supervisor gave up on a child and will end.
    Escalated {
        /// On which, and why.
        escalation: Arc<Escalation>,
    },
    /// It was asked to stop.
    StopRequested,
    /// It is over for good: it will not be started again, and its mailbox is closed.
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
    /// Tells the log. An operator wants to see at `info` what a healthy tree does, at `warn` what it heals itself, at
    /// `error` what it cannot.
    pub(crate) fn trace(&self, path: &str) {
        match self {
            Self::Started { incarnation } => {
                tracing::info!(target: TARGET, path, incarnation, "started")
            }
            Self::Ready => tracing::info!(target: TARGET, path, "ready"),
            Self::Exited { reason } if reason.is_normal() => {
                tracing::info!(target: TARGET, path, %reason, "exited")
            }
            // It was told, in full, where it began; on the way up it only repeats itself.
            Self::Exited { reason: ExitReason::Escalated(_) } => {
                tracing::debug!(target: TARGET, path, "exited: a child of its gave up")
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

/// The target of every tracing event of this crate.
pub(crate) const TARGET: &str = "fluffle_supervise";

/// How many events a slow reader may fall behind before it misses some.
pub(crate) const BACKLOG: usize = 256;

/// The events of a supervisor and of everything below it, from the moment this was made.
///
/// A reader that falls more than 256 events behind misses the oldest and is told how many.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Event>);

/// The reader was too slow, and this many events are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed: the reader was too slow")]
pub struct Missed(pub u64);

impl EventStream {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event. `None` when the supervisor is over for good and all was read.
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
