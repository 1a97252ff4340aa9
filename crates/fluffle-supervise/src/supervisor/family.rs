//! The decisions about a supervisor's children, without actix.

use std::{collections::VecDeque, sync::Arc, task::Context as Task, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    control::{Control, Inbox, Report, Signal},
    escalation::{Escalation, GivingUp},
    event::{AfterExit, What},
    exit::ExitReason,
    intensity::Budget,
    node::Node,
    policy::{Restart, Strategy},
    spec::ChildSpec,
    supervisor::{
        child::{Child, ChildPhase},
        core::Core,
    },
};

/// The children of one incarnation of a supervisor.
///
/// Each event (a signal, the clock, an order) changes the target state of single children. [`advance`](Self::advance)
/// then takes the next steps that the order of the children allows: first it stops children in reverse order, one at a
/// time, and only then it starts children in order. A second failure in the middle of a restart therefore needs no case
/// of its own.
pub(crate) struct Family {
    core: Arc<Core>,
    strategy: Strategy,
    together: bool,
    budget: Budget,
    /// In start order.
    children: Vec<Child>,
    inbox: Arc<Inbox>,
    ending: Option<Ending>,
    /// Whether [`Next::Ready`] was returned.
    announced: bool,
}

enum Ending {
    Asked,
    GaveUp(Arc<Escalation>),
}

/// What a supervisor waits for next.
pub(crate) enum Next {
    /// A signal or an order.
    Signal,
    /// A signal, an order, or this point in time.
    Clock(Instant),
    /// Nothing: all children are ready for the first time. Call `advance` again.
    Ready,
    /// Nothing: all children are down and the supervisor ends. If it gave up on a child, the escalation says why.
    End(Option<Arc<Escalation>>),
}

impl Family {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        let policy = core.policy().clone();
        Self {
            core: core.clone(),
            strategy: policy.strategy,
            together: policy.together,
            budget: Budget::new(policy.intensity),
            children: Vec::new(),
            inbox: Arc::default(),
            ending: None,
            announced: false,
        }
    }

    fn node(&self) -> &Arc<Node> {
        self.core.node()
    }

    /// Takes over the children of the roster, including those added to earlier incarnations.
    pub(crate) fn gather(&mut self, core: &Core) {
        self.children = core.entries().into_iter().map(Child::new).collect();
        for child in &self.children {
            child.node().waiting();
        }
    }

    pub(crate) fn listen(&self, task: &Task<'_>) {
        self.inbox.listen(task);
    }

    pub(crate) fn heed_signals(&mut self, now: Instant) {
        let signals: VecDeque<_> = self.inbox.take();
        for (token, signal) in signals {
            let from = |child: &Child| child.control.as_ref().is_some_and(|control| control.token() == token);
            // None: the signal comes from an incarnation that was abandoned before it sent this.
            let Some(index) = self.children.iter().position(from) else {
                continue;
            };
            match signal {
                Signal::Ready => self.ready(index, now),
                Signal::Healthy => self.children[index].proven = true,
                Signal::Exited(reason) => {
                    self.children[index].node().exited(&reason);
                    self.ended(index, reason, now);
                }
            }
        }
    }

    fn ready(&mut self, index: usize, now: Instant) {
        let child = &mut self.children[index];
        if child.phase == ChildPhase::Starting {
            child.phase = ChildPhase::Up;
            child.settled = true;
            child.ready_at = Some(now);
            child.node().ready();
        }
    }

    /// Decides whether a child whose incarnation has ended is over, restarted or given up.
    fn ended(&mut self, index: usize, reason: ExitReason, now: Instant) {
        let child = &mut self.children[index];
        child.control = None;
        let spell = child.ready_at.take().map(|since| now.duration_since(since));
        let healthy = if std::mem::take(&mut child.proven) { Some(Duration::MAX) } else { spell };
        let condemned = std::mem::take(&mut child.condemned);
        let restart = child.spec.settings.restart;

        if !child.removal.is_empty() || self.ending.is_some() {
            child.node().log_exit(AfterExit::Nothing);
        }
        if !child.removal.is_empty() {
            return self.remove(index, reason);
        }
        if self.ending.is_some() {
            return child.wait();
        }
        if reason.is_permanent() && restart != Restart::Temporary {
            return self.give_up(index, reason, GivingUp::Permanent);
        }
        if condemned && restart != Restart::Temporary {
            child.node().log_exit(AfterExit::RestartWithSibling);
            return child.wait();
        }
        let over = match restart {
            Restart::Temporary => true,
            Restart::Transient => reason.is_normal(),
            // `Stopped` although this supervisor did not ask for it: the child was stopped through its own handle
            // before it ran.
            Restart::Permanent => matches!(reason, ExitReason::Stopped),
        };
        if over {
            child.node().log_exit(AfterExit::Nothing);
            return self.over(index, reason);
        }
        if matches!(reason, ExitReason::ArbiterDied) && !child.spec.survives_its_arbiter() {
            return self.give_up(index, reason, GivingUp::NoArbiter);
        }
        if let Err(exhausted) = self.budget.spend(now) {
            let cause = GivingUp::TooManyRestarts { restarts: exhausted.restarts, within: exhausted.within };
            return self.give_up(index, reason, cause);
        }
        let (delay, attempt) = child.waits.next(healthy);
        // If the sum overflows, the wait was meant to be endless (such as `Duration::MAX`).
        let until = now.checked_add(delay).unwrap_or_else(|| now + FAR_AWAY);
        child.phase = ChildPhase::BackingOff { until };
        child.node().backing_off(delay, until, attempt);
        match self.strategy {
            Strategy::OneForOne => {}
            Strategy::RestForOne => self.condemn(index..),
            Strategy::OneForAll => self.condemn(0..),
        }
    }

    /// Marks these children to be stopped and, when they are down, started again in order.
    fn condemn(&mut self, range: impl std::slice::SliceIndex<[Child], Output = [Child]>) {
        for child in &mut self.children[range] {
            child.settled = false;
            child.condemned = child.is_alive();
        }
    }

    /// Begins to end this supervisor. The escalation tells the one above why.
    fn give_up(&mut self, index: usize, reason: ExitReason, cause: GivingUp) {
        let child = &mut self.children[index];
        child.wait();
        let escalation = Arc::new(Escalation::new(child.node().path(), reason, cause));
        self.node().emit(What::Escalated { escalation: escalation.clone() });
        self.ending = Some(Ending::GaveUp(escalation));
        self.condemn(0..);
    }

    /// Handles a child that ended for good by itself. If it belongs to the supervisor's spec, its node stays visible in
    /// snapshots. If it was added later, it is removed, because the number of added children has no limit.
    fn over(&mut self, index: usize, reason: ExitReason) {
        let child = &mut self.children[index];
        if child.added {
            return self.remove(index, reason);
        }
        child.phase = ChildPhase::Over;
        child.node().finish(reason);
    }

    fn remove(&mut self, index: usize, reason: ExitReason) {
        let child = self.children.remove(index);
        self.core.remove(&child.spec);
        child.node().finish(reason);
        for waiting in child.removal {
            // Fails if the caller of `stop_child` no longer waits.
            let _ = waiting.send(());
        }
    }

    /// Adds a child after the others, or refuses to.
    pub(crate) fn add(&mut self, spec: ChildSpec) -> Result<(), Refused> {
        if self.ending.is_some() {
            return Err(Refused::Ending);
        }
        if self.find(spec.id()).is_some() {
            return Err(Refused::Duplicate);
        }
        let entry = self.core.add(spec, true);
        entry.spec.node().settle_paths();
        self.children.push(Child::new(entry));
        self.inbox.nudge();
        Ok(())
    }

    /// Stops a child and removes it. `done` is notified when the child is down, or at once if it does not live.
    pub(crate) fn stop(&mut self, id: &str, done: oneshot::Sender<()>) -> Result<(), Refused> {
        let index = self.find(id).ok_or(Refused::Unknown)?;
        let child = &mut self.children[index];
        child.removal.push(done);
        if child.is_alive() {
            child.ask_to_stop(Instant::now());
        } else {
            self.remove(index, ExitReason::Stopped);
        }
        self.inbox.nudge();
        Ok(())
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.children.iter().position(|child| child.spec.id() == id)
    }

    /// Begins to end the supervisor, unless it has already begun. True if there is nothing left to wait for.
    pub(crate) fn end(&mut self) -> bool {
        if self.ending.is_none() {
            self.ending = Some(Ending::Asked);
            self.condemn(0..);
            self.inbox.nudge();
        }
        !self.children.iter().any(Child::is_alive)
    }

    /// Takes every step that is possible now.
    pub(crate) fn advance(&mut self, now: Instant) -> Next {
        while let Some(index) = self.children.iter().position(|child| child.is_past_its_deadline(now)) {
            self.kill(index, now);
        }
        // Stop in reverse order, each child when the one after it is down; or all at once if they do not depend on one
        // another.
        let at_once = if self.together && self.ending.is_some() { usize::MAX } else { 1 };
        let mut condemned = self.children.iter_mut().rev().filter(|child| child.condemned).peekable();
        if condemned.peek().is_some() {
            condemned.take(at_once).for_each(|child| child.ask_to_stop(now));
            return self.wait(now);
        }
        if let Some(ending) = &self.ending {
            if self.children.iter().any(Child::is_alive) {
                return self.wait(now);
            }
            return Next::End(match ending {
                Ending::Asked => None,
                Ending::GaveUp(escalation) => Some(escalation.clone()),
            });
        }
        if self.climb(now) && !self.announced {
            self.announced = true;
            return Next::Ready;
        }
        self.wait(now)
    }

    /// Starts children in order, each when those before it are ready. True if all are ready.
    fn climb(&mut self, now: Instant) -> bool {
        let backing_off = |child: &Child| matches!(child.phase, ChildPhase::BackingOff { until } if until > now);
        if self.strategy == Strategy::OneForAll && self.children.iter().any(backing_off) {
            return false;
        }
        let mut all_ready = true;
        for index in 0..self.children.len() {
            let child = &self.children[index];
            // Under one-for-one, an added child does not wait for the others.
            let in_order = !(child.added && self.strategy == Strategy::OneForOne);
            let due = match child.phase {
                ChildPhase::Waiting => true,
                ChildPhase::BackingOff { until } => until <= now,
                ChildPhase::Starting | ChildPhase::Up | ChildPhase::Stopping { .. } | ChildPhase::Over => false,
            };
            if due && (all_ready || !in_order) {
                self.start(index);
            }
            let child = &self.children[index];
            all_ready &= child.settled || !in_order || child.phase == ChildPhase::Over;
        }
        all_ready
    }

    fn start(&mut self, index: usize) {
        let child = &mut self.children[index];
        let control = Arc::new(Control::new());
        child.phase = ChildPhase::Starting;
        child.control = Some(control.clone());
        child.node().starting(&control);
        child.spec.spawn(Report::new(control, self.inbox.clone()));
    }

    /// Abandons an incarnation that did not stop in time. Nothing waits for it, because its thread may be blocked.
    fn kill(&mut self, index: usize, now: Instant) {
        let child = &self.children[index];
        if let Some(control) = &child.control {
            child.node().kill(control);
        }
        self.ended(index, ExitReason::Killed, now);
    }

    fn wait(&self, now: Instant) -> Next {
        let clock = self.children.iter().filter_map(|child| child.look_at(now)).min();
        clock.map_or(Next::Signal, Next::Clock)
    }
}

/// Thirty years, the value that tokio's timer also uses for "never".
const FAR_AWAY: std::time::Duration = std::time::Duration::from_secs(86400 * 365 * 30);

/// Why an order is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Duplicate,
    Unknown,
    Ending,
}

impl Drop for Family {
    /// If the supervisor crashed, was killed or lost its arbiter, its children are killed, because they must not
    /// outlive it.
    fn drop(&mut self) {
        for child in self.children.iter().rev() {
            if let Some(control) = &child.control {
                child.node().kill(control);
            }
        }
    }
}
