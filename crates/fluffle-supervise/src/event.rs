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
    /// Logs the event: at `debug` what is part of each start, restart and stop, at `error` what the tree cannot repair.
    ///
    /// An exit that the tree repairs is logged by [`Ended::log`], once it is decided what follows.
    pub(crate) fn trace(&self, path: &str) {
        match self {
            Self::Started { incarnation } => tracing::debug!(target: TARGET, path, incarnation, "started"),
            Self::Ready => tracing::debug!(target: TARGET, path, "ready"),
            // This failure was already logged in full where it began; each supervisor above it would only repeat it.
            Self::Exited { reason: ExitReason::Escalated(_) } => {
                tracing::debug!(target: TARGET, path, "ended: it gave up on a child")
            }
            Self::Exited { reason } if reason.is_permanent() => {
                tracing::error!(
                    target: TARGET, path, %reason,
                    "ended: a restart cannot help, so it is not started again"
                )
            }
            Self::Exited { reason } => tracing::debug!(target: TARGET, path, %reason, "ended"),
            Self::Backoff { delay, attempt } => {
                tracing::debug!(target: TARGET, path, ?delay, attempt, "waits before it is started again")
            }
            Self::Restarting => tracing::debug!(target: TARGET, path, "is started again"),
            Self::Escalated { escalation } if escalation.cause() == GivingUp::Permanent => {
                tracing::debug!(target: TARGET, path, %escalation, "gives up on a child and ends")
            }
            Self::Escalated { escalation } => {
                tracing::error!(
                    target: TARGET, path, %escalation,
                    "gives up on a child and ends: the supervisor above decides whether it is started again"
                )
            }
            Self::StopRequested => tracing::debug!(target: TARGET, path, "stop requested"),
            Self::Stopped => tracing::debug!(target: TARGET, path, "over"),
        }
    }
}

/// What follows an exit that is not permanent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AfterExit {
    /// The child waits, and then is started again for this time in a row.
    Restart { delay: Duration, attempt: u32 },
    /// A sibling has ended, and the child is started again together with it.
    RestartWithSibling,
    /// It is not started again.
    Nothing,
}

/// The exits of one child as the log tells of them.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The reason in the last line of the present row of restarts.
    told: Option<Box<str>>,
}

impl Ended {
    /// Logs an exit and what follows, at `warn`. Of a row of restarts it logs the 1st, 2nd, 4th, 8th and so on, and
    /// each that has another reason than the one logged before. A permanent exit is logged by [`What::trace`].
    pub(crate) fn log(&mut self, path: &str, reason: &ExitReason, next: AfterExit) {
        if reason.is_permanent() {
            return;
        }
        match next {
            AfterExit::Restart { delay, attempt } => {
                let text = reason.to_string().into_boxed_str();
                if attempt.is_power_of_two() || self.told.as_ref() != Some(&text) {
                    tracing::warn!(
                        target: TARGET, path, reason = &*text, ?delay, attempt,
                        "ended: it is started again after the delay"
                    );
                    self.told = Some(text);
                }
            }
            // A supervisor that gave up has logged that.
            AfterExit::RestartWithSibling | AfterExit::Nothing
                if reason.is_normal() || matches!(reason, ExitReason::Escalated(_)) => {}
            AfterExit::RestartWithSibling => {
                tracing::warn!(target: TARGET, path, %reason, "ended: it is started again, because a sibling has ended")
            }
            AfterExit::Nothing => tracing::warn!(target: TARGET, path, %reason, "ended: it is not started again"),
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
