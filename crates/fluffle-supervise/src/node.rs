//! A node of the tree as seen from outside: shared state behind short locks, written by the node's supervisor.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use crate::{
    control::Control,
    event::{AfterExit, BACKLOG, Ended, Event, EventStream, TARGET, What},
    exit::ExitReason,
    mailbox::{AnyMailbox, MailboxDepth},
    snapshot::{NodeKind, NodeSnapshot, State},
};

/// Returns the depth of a queue that an actor reads instead of its mailbox.
pub(crate) type Gauge = Box<dyn Fn() -> MailboxDepth + Send + Sync>;

/// Orders a supervisor to stop the child of this id and to remove it. The future resolves when the child is down, or
/// when the supervisor is over and the child with it. If the future is dropped before the supervisor has taken the
/// order, the order is withdrawn.
type StopOrder = dyn Fn(Arc<str>) -> BoxFuture<'static, ()> + Send + Sync;

/// Returns the text that snapshots show after an actor's state, such as "paused". `None` shows nothing.
pub(crate) type Note = Box<dyn Fn() -> Option<String> + Send + Sync>;

type Observer = dyn Fn(&Event) + Send + Sync;

/// Says whether an actor has logged this exit itself.
type Logs = dyn Fn(&ExitReason) -> bool + Send + Sync;

pub(crate) struct Node {
    id: Arc<str>,
    mailbox: Arc<dyn AnyMailbox>,
    parent: OnceLock<Weak<Node>>,
    /// How a child of this node is stopped. A closure, because a node does not know the supervisor's actor. Set for a
    /// supervisor only.
    stop_child: OnceLock<Box<StopOrder>>,
    /// Set when the tree above this node is complete.
    path: OnceLock<Arc<str>>,
    status: Mutex<Status>,
    children: Mutex<Vec<Arc<Node>>>,
    /// The current incarnation, if one lives.
    control: Mutex<Option<Arc<Control>>>,
    /// The node was asked to stop. If no incarnation lived then, the next one gets the request when it starts.
    stop_wanted: AtomicBool,
    listeners: Mutex<Listeners>,
    /// Called for each event of this node and of every node below it.
    observer: OnceLock<Box<Observer>>,
    logs: OnceLock<Box<Logs>>,
    over: OnceLock<ExitReason>,
    over_now: Notify,
}

struct Status {
    kind: NodeKind,
    state: State,
    since: Instant,
    starts: u64,
    last_exit: Option<ExitReason>,
    /// Whether the actor has logged its last exit itself.
    is_logged: bool,
    ended: Ended,
    next_restart_at: Option<Instant>,
    gauge: Option<Arc<Gauge>>,
    note: Option<Arc<Note>>,
}

impl Status {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed)
    }

    fn become_now(&mut self, state: State) {
        self.state = state;
        self.since = Instant::now();
        self.next_restart_at = None;
    }
}

enum Listeners {
    None,
    Some(broadcast::Sender<Event>),
    Closed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(crate) fn new(id: Arc<str>, kind: NodeKind, mailbox: Arc<dyn AnyMailbox>) -> Arc<Self> {
        Arc::new(Self {
            id,
            mailbox,
            parent: OnceLock::new(),
            stop_child: OnceLock::new(),
            path: OnceLock::new(),
            status: Mutex::new(Status {
                kind,
                state: State::Waiting,
                since: Instant::now(),
                starts: 0,
                last_exit: None,
                is_logged: false,
                ended: Ended::default(),
                next_restart_at: None,
                gauge: None,
                note: None,
            }),
            children: Mutex::default(),
            control: Mutex::default(),
            stop_wanted: AtomicBool::new(false),
            listeners: Mutex::new(Listeners::None),
            observer: OnceLock::new(),
            logs: OnceLock::new(),
            over: OnceLock::new(),
            over_now: Notify::new(),
        })
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The ids from the root down, joined by `/`.
    pub(crate) fn path(&self) -> Arc<str> {
        if let Some(path) = self.path.get() {
            return path.clone();
        }
        match self.parent.get().and_then(Weak::upgrade) {
            Some(parent) => format!("{}/{}", parent.path(), self.id).into(),
            None => self.id.clone(),
        }
    }

    /// Stores the paths from this node down. Call it only when the tree above is complete.
    pub(crate) fn settle_paths(&self) {
        let _ = self.path.set(self.path());
        for child in &*lock(&self.children) {
            child.settle_paths();
        }
    }

    /// Sets how a child of this node is stopped and removed. Called once, for a supervisor.
    pub(crate) fn set_stop_child(&self, stop: impl Fn(Arc<str>) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        let _ = self.stop_child.set(Box::new(stop));
    }

    /// Sets the function that is called for each event. Called before the tree starts; only the first call counts.
    pub(crate) fn observe(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Orders the supervisor above to stop this node and to remove it. `None` for the root of a tree, which has none.
    pub(crate) fn order_stop_from_above(&self) -> Option<BoxFuture<'static, ()>> {
        let above = self.parent.get().and_then(Weak::upgrade)?;
        above.stop_child.get().map(|stop| stop(self.id.clone()))
    }

    pub(crate) fn set_kind(&self, kind: NodeKind) {
        lock(&self.status).kind = kind;
    }

    pub(crate) fn set_gauge(&self, gauge: Gauge) {
        lock(&self.status).gauge = Some(Arc::new(gauge));
    }

    pub(crate) fn set_note(&self, note: Note) {
        lock(&self.status).note = Some(Arc::new(note));
    }

    pub(crate) fn set_logs(&self, logs: Box<Logs>) {
        let _ = self.logs.set(logs);
    }

    pub(crate) fn add_child(self: &Arc<Self>, child: &Arc<Node>) {
        // A spec is moved into one supervisor, so a child has one parent.
        let _ = child.parent.set(Arc::downgrade(self));
        lock(&self.children).push(child.clone());
    }

    pub(crate) fn remove_child(&self, child: &Arc<Node>) {
        lock(&self.children).retain(|other| !Arc::ptr_eq(other, child));
    }

    fn set(&self, state: State, what: What) {
        self.set_state(state);
        self.emit(what);
    }

    fn set_state(&self, state: State) {
        let mut status = lock(&self.status);
        // A node that is over keeps its state: this may be a late signal of an abandoned incarnation.
        if !status.is_over() {
            status.become_now(state);
        }
    }

    /// The node waits for its turn to start.
    pub(crate) fn waiting(&self) {
        self.set_state(State::Waiting);
    }

    /// The supervisor starts a new incarnation.
    pub(crate) fn starting(&self, control: &Arc<Control>) {
        *lock(&self.control) = Some(control.clone());
        if self.stop_wanted.load(Ordering::Acquire) {
            control.request_stop();
        }
        let incarnation = {
            let mut status = lock(&self.status);
            status.starts += 1;
            status.starts
        };
        if incarnation > 1 {
            self.emit(What::Restarting);
        }
        self.set(State::Starting, What::Started { incarnation });
    }

    pub(crate) fn ready(&self) {
        self.set(State::Running, What::Ready);
    }

    pub(crate) fn exited(&self, reason: &ExitReason) {
        lock(&self.control).take();
        // The actor's own code, so no lock is held while it runs.
        let is_logged = self.logs.get().is_some_and(|logs| logs(reason));
        {
            let mut status = lock(&self.status);
            status.last_exit = Some(reason.clone());
            status.is_logged = is_logged;
        }
        self.emit(What::Exited { reason: reason.clone() });
    }

    pub(crate) fn backing_off(&self, delay: Duration, until: Instant, attempt: u32) {
        self.set_state(State::BackingOff);
        lock(&self.status).next_restart_at = Some(until);
        self.emit(What::Backoff { delay, attempt });
        self.log_exit(AfterExit::Restart { delay, attempt });
    }

    /// Logs the last exit and what follows it, unless the actor has logged that exit itself.
    pub(crate) fn log_exit(&self, next: AfterExit) {
        let mut status = lock(&self.status);
        let Status { last_exit, is_logged, ended, .. } = &mut *status;
        if let Some(reason) = last_exit
            && !*is_logged
        {
            ended.log(&self.path(), reason, next);
        }
    }

    pub(crate) fn stopping(&self) {
        self.set(State::Stopping, What::StopRequested);
    }

    /// Asks the current incarnation to stop, or else the next one. True if one lives now.
    pub(crate) fn request_stop(&self) -> bool {
        let again = self.stop_wanted.swap(true, Ordering::AcqRel);
        let control = lock(&self.control).clone();
        if let Some(control) = &control
            && !again
        {
            self.stopping();
            control.request_stop();
        }
        control.is_some()
    }

    /// Drops `incarnation`, and everything below this node if `incarnation` is the current one. Works even if the
    /// incarnation's thread is blocked.
    pub(crate) fn kill(&self, incarnation: &Control) {
        let lives = {
            let mut control = lock(&self.control);
            control.take_if(|current| current.token() == incarnation.token())
        };
        incarnation.kill();
        self.mailbox.detach(incarnation.token());
        // If another incarnation lives by now, the children belong to that one.
        if lives.is_some() {
            for child in lock(&self.children).clone() {
                child.kill_current();
            }
            self.exited(&ExitReason::Killed);
            self.waiting();
        }
    }

    pub(crate) fn kill_current(&self) {
        let current = lock(&self.control).clone();
        if let Some(current) = current {
            self.kill(&current);
        }
    }

    /// Ends the node and everything below it for good. Does nothing the second time.
    pub(crate) fn finish(&self, reason: ExitReason) {
        {
            let mut status = lock(&self.status);
            if status.is_over() {
                return;
            }
            status.become_now(if reason.is_normal() { State::Stopped } else { State::Failed });
        }
        for child in lock(&self.children).clone() {
            let last_exit = lock(&child.status).last_exit.clone();
            child.finish(last_exit.unwrap_or(ExitReason::Stopped));
        }
        let lost = self.mailbox.close();
        if lost > 0 {
            let path = &*self.path();
            tracing::warn!(target: TARGET, path, lost, "posted messages dropped: the child is over and reads none");
        }
        self.emit(What::Stopped);
        *lock(&self.listeners) = Listeners::Closed;
        // Set last, so that a task that waits for the end finds everything done.
        let _ = self.over.set(reason);
        self.over_now.notify_waiters();
    }

    pub(crate) fn over(&self) -> Option<ExitReason> {
        self.over.get().cloned()
    }

    /// Resolves when the node is over for good.
    pub(crate) async fn wait(&self) -> ExitReason {
        loop {
            let notified = self.over_now.notified();
            tokio::pin!(notified);
            // Enabled before the check, so that an end between the check and the await is noticed.
            notified.as_mut().enable();
            if let Some(reason) = self.over() {
                return reason;
            }
            notified.await;
        }
    }

    /// Logs the event and sends it to the listeners of this node and of every node above it.
    pub(crate) fn emit(&self, what: What) {
        let path = self.path();
        what.trace(&path);
        let event = Event { at: Instant::now().into_std(), path, what };
        let mut above = self.hear(&event);
        while let Some(node) = above {
            above = node.hear(&event);
        }
    }

    /// Sends the event to this node's listeners and returns the node above.
    fn hear(&self, event: &Event) -> Option<Arc<Node>> {
        if let Some(observer) = self.observer.get() {
            observer(event);
        }
        if let Listeners::Some(sender) = &*lock(&self.listeners) {
            // Fails only when nobody listens any more.
            let _ = sender.send(event.clone());
        }
        self.parent.get().and_then(Weak::upgrade)
    }

    pub(crate) fn events(&self) -> EventStream {
        let mut listeners = lock(&self.listeners);
        let receiver = match &*listeners {
            Listeners::Some(sender) => sender.subscribe(),
            Listeners::None => {
                let (sender, receiver) = broadcast::channel(BACKLOG);
                *listeners = Listeners::Some(sender);
                receiver
            }
            Listeners::Closed => broadcast::channel(1).1,
        };
        EventStream::new(receiver)
    }

    /// The node with this path: this one or one below it.
    pub(crate) fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Self>> {
        if *self.path() == *path {
            return Some(Arc::clone(self));
        }
        let children = lock(&self.children).clone();
        children.iter().find_map(|child| child.find(path))
    }

    /// Has the present incarnation of an actor end as if it had crashed. False if there is none, or if this is a
    /// supervisor.
    pub(crate) fn doom(&self) -> bool {
        let is_running_actor = {
            let status = lock(&self.status);
            matches!(status.kind, NodeKind::Actor) && matches!(status.state, State::Starting | State::Running)
        };
        let control = lock(&self.control).clone();
        let control = control.filter(|_| is_running_actor);
        control.iter().for_each(|control| control.doom());
        control.is_some()
    }

    /// Whether this node and all below it are running.
    pub(crate) fn all_running(&self) -> bool {
        let runs = lock(&self.status).state == State::Running;
        runs && lock(&self.children).iter().all(|child| child.all_running())
    }

    pub(crate) fn snapshot(&self) -> NodeSnapshot {
        let children = lock(&self.children).clone();
        let path = self.path();
        let status = lock(&self.status);
        let snapshot = NodeSnapshot {
            id: self.id.clone(),
            path,
            kind: status.kind,
            state: status.state,
            since: status.since.into_std(),
            restarts: status.starts.saturating_sub(1),
            last_exit: status.last_exit.clone(),
            next_restart_at: status.next_restart_at.map(Instant::into_std),
            mailbox: None,
            note: None,
            children: Vec::new(),
        };
        let (gauge, note) = (status.gauge.clone(), status.note.clone());
        drop(status);
        NodeSnapshot {
            mailbox: match (snapshot.kind, gauge) {
                (NodeKind::Supervisor(_), _) => None,
                // The gauge is the application's code, so no lock is held while it runs.
                (_, Some(gauge)) => Some(gauge()),
                (_, None) => Some(self.mailbox.depth()),
            },
            note: note.and_then(|note| note()),
            children: children.iter().map(|child| child.snapshot()).collect(),
            ..snapshot
        }
    }
}
