//! The state of one child in its supervisor.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use crate::{backoff::Waits, control::Control, node::Node, spec::ChildSpec, supervisor::core::Entry};

pub(crate) struct Child {
    pub(crate) spec: Arc<ChildSpec>,
    /// The child was added to the running supervisor and is not part of its spec.
    pub(crate) added: bool,
    pub(crate) phase: ChildPhase,
    /// The current incarnation, if one lives.
    pub(crate) control: Option<Arc<Control>>,
    /// The child has been ready since the last group start in which it took part. Until it is, later siblings do not
    /// start.
    pub(crate) settled: bool,
    /// The child must stop as soon as the siblings after it have stopped.
    pub(crate) condemned: bool,
    /// Told when the child is stopped and removed.
    pub(crate) removal: Vec<oneshot::Sender<()>>,
    pub(crate) waits: Waits,
    pub(crate) ready_at: Option<Instant>,
    /// The child reported that it is healthy, so its next failure counts as its first.
    pub(crate) proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildPhase {
    /// The child waits for its turn to start.
    Waiting,
    Starting,
    Up,
    /// `None`: the deadline overflows `Instant`, so the wait has no limit.
    Stopping {
        deadline: Option<Instant>,
    },
    BackingOff {
        until: Instant,
    },
    /// The child has ended for good.
    Over,
}

impl Child {
    pub(crate) fn new(Entry { spec, added }: Entry) -> Self {
        let phase = if spec.node().over().is_some() { ChildPhase::Over } else { ChildPhase::Waiting };
        let waits = Waits::new(spec.settings.backoff);
        Self {
            spec,
            added,
            phase,
            control: None,
            settled: false,
            condemned: false,
            removal: Vec::new(),
            waits,
            ready_at: None,
            proven: false,
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.spec.node()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.control.is_some()
    }

    /// Puts the child back to waiting for its turn to start.
    pub(crate) fn wait(&mut self) {
        self.phase = ChildPhase::Waiting;
        self.node().waiting();
    }

    /// Asks the child to stop, unless it was asked before.
    pub(crate) fn ask_to_stop(&mut self, now: Instant) {
        let Some(control) = &self.control else { return };
        if !matches!(self.phase, ChildPhase::Stopping { .. }) {
            self.phase = ChildPhase::Stopping { deadline: now.checked_add(self.spec.deadline()) };
            self.node().stopping();
            control.request_stop();
        }
    }

    pub(crate) fn is_past_its_deadline(&self, now: Instant) -> bool {
        matches!(self.phase, ChildPhase::Stopping { deadline: Some(deadline) } if deadline <= now)
    }

    /// When the supervisor must look at this child again if no signal arrives before.
    pub(crate) fn look_at(&self, now: Instant) -> Option<Instant> {
        let at = match self.phase {
            ChildPhase::Stopping { deadline } => deadline,
            ChildPhase::BackingOff { until } => Some(until),
            ChildPhase::Waiting | ChildPhase::Starting | ChildPhase::Up | ChildPhase::Over => None,
        };
        // If the time is past, the child waits for something else, such as a sibling.
        at.filter(|at| *at > now)
    }
}
