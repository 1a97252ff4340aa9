//! The metrics of the nodes of the supervision tree.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use fluffle_supervise::{Event, ExitReason, What};

use crate::{
    instrument::{bounds::TIMES, histogram::Histogram},
    metrics::by_label::ByLabel,
    names,
    reading::Reading,
};

/// The metrics of one node, through all its incarnations.
pub(crate) struct NodeMetrics {
    restarts: ByLabel,
    recovery: Histogram,
    exit: Mutex<Option<Exit>>,
}

/// An exit from which the node has not come back yet.
struct Exit {
    kind: &'static str,
    at: Instant,
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self { restarts: ByLabel::default(), recovery: Histogram::of_times(TIMES), exit: Mutex::default() }
    }
}

impl NodeMetrics {
    pub(crate) fn record(&self, event: &Event) {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.what {
            // The first exit of a row counts: the time to recover holds the restarts that failed.
            What::Exited { reason } => {
                let at = exit.as_ref().map_or(event.at, |before| before.at);
                *exit = Some(Exit { kind: kind(reason), at });
            }
            What::Restarting => self.restarts.one(exit.as_ref().map_or("sibling", |exit| exit.kind)),
            What::Ready => {
                if let Some(exit) = exit.take() {
                    self.recovery.record(event.at.saturating_duration_since(exit.at));
                }
            }
            What::Stopped => *exit = None,
            _ => {}
        }
    }

    pub(crate) fn read(&self, node: &str, into: &mut Reading) {
        for (reason, count) in self.restarts.all() {
            into.count(&names::NODE_RESTARTS, &[node, &reason], count);
        }
        into.counts(&names::NODE_RECOVERY, &[node], self.recovery.read());
    }
}

/// The kind of an exit, as a label.
pub(crate) fn kind(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Finished => "finished",
        ExitReason::Stopped => "stopped",
        ExitReason::Failed(_) => "failed",
        ExitReason::Panicked(_) => "panicked",
        ExitReason::ArbiterDied => "arbiter_died",
        ExitReason::Killed => "killed",
        ExitReason::Escalated(_) => "escalated",
        _ => "other",
    }
}
