//! One child as its supervisor sees it.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use crate::{backoff::Waits, control::Control, node::Node, spec::ChildSpec, supervisor::core::Entry};

pub(crate) struct Child {
    pub(crate) spec: Arc<ChildSpec>,
    /// Added to the running supervisor.
    pub(crate) added: bool,
    pub(crate) phase: Phase,
    /// The incarnation that lives, if one does.
    pub(crate) control: Option<Arc<Control>>,
    /// It was ready since the last time its order of start mattered. Until then it holds back later siblings.
    pub(crate) settled: bool,
    /// It has to stop when those after it have stopped.
    pub(crate) condemned: bool,
    /// Who waits for it to be stopped and removed.
    pub(crate) removal: Vec<oneshot::Sender<()>>,
    pub(crate) waits: Waits,
    pub(crate) ready_at: Option<Instant>,
    /// It said that it was healthy, however short its life.
    pub(crate) proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For its turn.
    Waiting,
    Starting,
    Up,
    /// `None`: a time too far away to be told.
    Stopping {
        deadline: Option<Instant>,
    },
    BackingOff {
        until: Instant,
    },
    /// For good.
    Over,
}

impl Child {
    pub(crate) fn new(Entry { spec, added }: Entry) -> Self {
        let phase = if spec.node().over().is_some() { Phase::Over } else { Phase::Waiting };
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

    /// Waits for its turn.
    pub(crate) fn wait(&mut self) {
        self.phase = Phase::Waiting;
        self.node().waiting();
    }

    /// Asks it to stop, unless it was asked before.
    pub(crate) fn ask_to_stop(&mut self, now: Instant) {
        let Some(control) = &self.control else { return };
        if !matches!(self.phase, Phase::Stopping { .. }) {
            self.phase = Phase::Stopping { deadline: now.checked_add(self.spec.deadline()) };
            self.node().stopping();
            control.request_stop();
        }
    }

    pub(crate) fn is_past_its_deadline(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Stopping { deadline: Some(deadline) } if deadline <= now)
    }

    /// When its supervisor has to look at it, if nothing happens before.
    pub(crate) fn look_at(&self, now: Instant) -> Option<Instant> {
        let at = match self.phase {
            Phase::Stopping { deadline } => deadline,
            Phase::BackingOff { until } => Some(until),
            Phase::Waiting | Phase::Starting | Phase::Up | Phase::Over => None,
        };
        // What is past waits for something else, such as a sibling.
        at.filter(|at| *at > now)
    }
}
