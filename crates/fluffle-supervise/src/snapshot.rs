//! The state of the tree at one moment.

use std::{fmt, sync::Arc, time::Instant};

use crate::{exit::ExitReason, mailbox::MailboxDepth, policy::Strategy};

/// A node of the tree and what is below it, at one moment.
///
/// A snapshot reads shared state and asks no actor, so it is cheap enough to take ten times a second, and possible
/// while actors are blocked. `Display` draws the tree, one line a node:
///
/// ```text
/// app  one-for-one  running for 12s
/// ├─ consume  rest-for-one  running for 3s  1 restart  last exit: panicked in a handler: boom
/// │  └─ socket  running for 3s  mailbox 2/64
/// └─ publish  backing off for 1s  2 restarts  next restart in 3s  last exit: failed: connection refused
/// ```
#[derive(Clone, Debug)]
pub struct NodeSnapshot {
    /// The node's name, unique among its siblings.
    pub id: Arc<str>,
    /// The node's name in the tree: the ids from the root down, joined by `/`.
    pub path: Arc<str>,
    /// Whether the node is an actor or a supervisor.
    pub kind: NodeKind,
    /// The node's state.
    pub state: State,
    /// When the node entered this state.
    pub since: Instant,
    /// How often the node was restarted.
    pub restarts: u64,
    /// How the node's last incarnation ended.
    pub last_exit: Option<ExitReason>,
    /// When the node will be started again. Only while it [backs off](State::BackingOff).
    pub next_restart_at: Option<Instant>,
    /// How full the actor's mailbox is. `None` for a supervisor.
    pub mailbox: Option<MailboxDepth>,
    /// A text of the actor about itself, such as "paused". `None` if the actor has no
    /// [note](crate::ActorSpec::note), or its note is empty now.
    pub note: Option<String>,
    /// The children of a supervisor, in start order.
    pub children: Vec<NodeSnapshot>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// An actor.
    Actor,
    /// A supervisor.
    Supervisor(Strategy),
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Not started: the node's supervisor is not running, or an earlier sibling is not ready yet.
    Waiting,
    /// Started, not ready.
    Starting,
    /// Ready.
    Running,
    /// Waits before it is started again.
    BackingOff,
    /// Asked to stop.
    Stopping,
    /// Over for good after a [normal](ExitReason::is_normal) end.
    Stopped,
    /// Over for good after any other end.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

impl NodeSnapshot {
    /// The node with this path: this one or one below it.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&NodeSnapshot> {
        if &*self.path == path {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(path))
    }

    /// The line that describes the node alone.
    fn line(&self, now: Instant, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, restarts, .. } = self;
        write!(f, "{id}")?;
        if let NodeKind::Supervisor(strategy) = self.kind {
            write!(f, "  {strategy}")?;
        }
        let since = now.saturating_duration_since(self.since);
        match since.as_secs() {
            0 => write!(f, "  {state} for {}ms", since.as_millis())?,
            seconds => write!(f, "  {state} for {seconds}s")?,
        }
        if let Some(note) = &self.note {
            write!(f, "  {note}")?;
        }
        match restarts {
            0 => {}
            1 => write!(f, "  1 restart")?,
            _ => write!(f, "  {restarts} restarts")?,
        }
        if let Some(at) = self.next_restart_at {
            let wait = at.saturating_duration_since(now).as_secs_f64();
            write!(f, "  next restart in {wait:.1}s")?;
        }
        if let Some(MailboxDepth { waiting, capacity }) = self.mailbox
            && waiting > 0
        {
            write!(f, "  mailbox {waiting}/{capacity}")?;
        }
        // `Stopped` is left out because it only repeats that a supervisor or a handle stopped this node.
        match &self.last_exit {
            None | Some(ExitReason::Stopped) => Ok(()),
            Some(reason) => write!(f, "  last exit: {reason}"),
        }?;
        Ok(())
    }

    fn branch(&self, now: Instant, indent: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.children.len().saturating_sub(1);
        for (n, child) in self.children.iter().enumerate() {
            let (fork, below) = if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            write!(f, "\n{indent}{fork}")?;
            child.line(now, f)?;
            child.branch(now, &format!("{indent}{below}"), f)?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tokio's clock, because `since` comes from it and tests can pause it.
        let now = tokio::time::Instant::now().into_std();
        self.line(now, f)?;
        self.branch(now, "", f)
    }
}
