//! The link between a supervisor and one incarnation of a child. Stop and kill go to the incarnation; ready, healthy
//! and exited come back.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use tokio::task::AbortHandle;

use crate::exit::ExitReason;

/// Identifies one incarnation, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Lets the supervisor stop or kill one incarnation.
#[derive(Debug)]
pub(crate) struct Control {
    token: Token,
    stop: AtomicBool,
    killed: AtomicBool,
    /// A handle wants to see it crash.
    doomed: AtomicBool,
    task: AtomicWaker,
    abort: Mutex<Option<AbortHandle>>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            token: Token::next(),
            stop: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            task: AtomicWaker::new(),
            abort: Mutex::new(None),
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.task.wake();
    }

    #[inline]
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Has the incarnation end as if it had crashed, as soon as its thread is free.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
        self.task.wake();
    }

    #[inline]
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    /// Call it before `stop_requested`, so that a request between the two calls wakes the task.
    pub(crate) fn wake_on_stop(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// Aborts the incarnation's task, which then drops the incarnation, and silences it: its report is no longer sent.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        let abort = self.abort.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(abort) = abort {
            abort.abort();
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Stores the handle of the task that runs the incarnation. If the incarnation was killed before it had a task, the
    /// task is aborted at once.
    pub(crate) fn adopt(&self, task: AbortHandle) {
        let mut abort = self.abort.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_killed() {
            task.abort();
        } else {
            *abort = Some(task);
        }
    }
}

/// What an incarnation reports to its supervisor.
#[derive(Debug)]
pub(crate) enum Signal {
    Ready,
    Healthy,
    Exited(ExitReason),
}

/// Receives an incarnation's signals. Called on the incarnation's thread, also while it unwinds, so it must neither
/// block nor panic.
pub(crate) trait Watch: Send + Sync {
    fn signal(&self, from: Token, signal: Signal);
}

/// Sends exactly one [`Signal::Exited`]. If it is dropped without having sent one, it reports that the arbiter died,
/// because a task or a queued command disappears unasked only with its arbiter.
pub(crate) struct Report {
    control: Arc<Control>,
    watch: Option<Arc<dyn Watch>>,
}

impl Report {
    pub(crate) fn new(control: Arc<Control>, watch: Arc<dyn Watch>) -> Self {
        Self { control, watch: Some(watch) }
    }

    #[inline]
    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub(crate) fn watch(&self) -> Option<Arc<dyn Watch>> {
        self.watch.clone()
    }

    pub(crate) fn exited(&mut self, reason: ExitReason) {
        if let Some(watch) = self.watch.take()
            && !self.control.is_killed()
        {
            watch.signal(self.control.token, Signal::Exited(reason));
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.exited(ExitReason::ArbiterDied);
    }
}

/// The queue of the signals from a supervisor's children. Its length is bounded by the number of children: an
/// incarnation sends at most three signals, and the next one starts only when the supervisor has read them.
#[derive(Default)]
pub(crate) struct Inbox {
    signals: Mutex<VecDeque<(Token, Signal)>>,
    supervisor: AtomicWaker,
}

impl Inbox {
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.supervisor.register(cx.waker());
    }

    /// Wakes the supervisor to look at its children and its clock again.
    pub(crate) fn nudge(&self) {
        self.supervisor.wake();
    }

    pub(crate) fn take(&self) -> VecDeque<(Token, Signal)> {
        std::mem::take(&mut *self.signals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watch for Inbox {
    fn signal(&self, from: Token, signal: Signal) {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).push_back((from, signal));
        self.supervisor.wake();
    }
}
