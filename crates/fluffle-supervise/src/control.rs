//! What passes between a supervisor and one incarnation of a child: stop and kill one way, ready and exited the other.

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

/// Tells one incarnation from every other one in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The supervisor's hold on one incarnation.
#[derive(Debug)]
pub(crate) struct Control {
    token: Token,
    stop: AtomicBool,
    killed: AtomicBool,
    task: AtomicWaker,
    abort: Mutex<Option<AbortHandle>>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            token: Token::next(),
            stop: AtomicBool::new(false),
            killed: AtomicBool::new(false),
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

    /// To be called before `stop_requested` is looked at, so that no request falls between.
    pub(crate) fn wake_on_stop(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// Drops the incarnation at its next chance, and silences it: nobody waits for its report any more.
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

    /// Takes hold of the task that runs the incarnation, which may have been killed before it had one.
    pub(crate) fn adopt(&self, task: AbortHandle) {
        let mut abort = self.abort.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_killed() {
            task.abort();
        } else {
            *abort = Some(task);
        }
    }
}

/// What an incarnation reports.
#[derive(Debug)]
pub(crate) enum Signal {
    Ready,
    Healthy,
    Exited(ExitReason),
}

/// Who wants to know about an incarnation. Called from the incarnation's thread, also while it unwinds: must neither
/// block nor panic.
pub(crate) trait Watch: Send + Sync {
    fn signal(&self, from: Token, signal: Signal);
}

/// Sends exactly one [`Signal::Exited`]. Dropped without one, it reports that the arbiter died: the only way for a
/// task or a queued command to vanish that nobody asked for.
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

/// Where a supervisor finds its children's signals. Bounded by the number of children: an incarnation sends at most
/// two, and the next one starts only when the supervisor has read both.
#[derive(Default)]
pub(crate) struct Inbox {
    signals: Mutex<VecDeque<(Token, Signal)>>,
    supervisor: AtomicWaker,
}

impl Inbox {
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.supervisor.register(cx.waker());
    }

    /// Has the supervisor look at its children and its clock again.
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
