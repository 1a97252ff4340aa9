//! Which incarnation this thread is running just now, so that an actor's context can speak for it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use crate::{
    control::{Control, Signal, Watch},
    exit::{ExitReason, Phase},
};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Current>>> = const { RefCell::new(None) };
}

/// What the code of an incarnation shares with the wrapper that polls it.
pub(crate) struct Current {
    control: Arc<Control>,
    watch: Option<Arc<dyn Watch>>,
    ready: Cell<bool>,
    phase: Cell<Phase>,
    exit: RefCell<Option<ExitReason>>,
}

impl Current {
    pub(crate) fn new(control: Arc<Control>, watch: Option<Arc<dyn Watch>>) -> Rc<Self> {
        Rc::new(Self {
            control,
            watch,
            ready: Cell::new(false),
            phase: Cell::new(Phase::Factory),
            exit: RefCell::new(None),
        })
    }

    /// Runs `code` as this incarnation's.
    pub(crate) fn enter<T>(self: &Rc<Self>, code: impl FnOnce() -> T) -> T {
        struct Restore(Option<Rc<Current>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let outer = self.0.take();
                // Fails only while the thread's own locals are torn down: then nobody looks any more.
                let _ = CURRENT.try_with(|current| current.replace(outer));
            }
        }
        let outer = CURRENT.try_with(|current| current.replace(Some(self.clone())));
        let _restore = Restore(outer.ok().flatten());
        code()
    }

    /// The incarnation being polled on this thread, if there is one.
    pub(crate) fn get() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Why the incarnation is about to end. The first reason stands: what comes later is a consequence.
    pub(crate) fn set_exit(&self, reason: ExitReason) {
        self.exit.borrow_mut().get_or_insert(reason);
    }

    pub(crate) fn take_exit(&self) -> Option<ExitReason> {
        self.exit.borrow_mut().take()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Reports readiness, once.
    pub(crate) fn ready(&self) {
        if !self.ready.replace(true)
            && let Some(watch) = &self.watch
            && !self.control.is_killed()
        {
            watch.signal(self.control.token(), Signal::Ready);
        }
    }
}
