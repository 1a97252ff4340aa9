//! Which incarnation this thread is running now, so that an actor's context can report for it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use crate::{
    control::{Control, Signal, Token, Watch},
    exit::{ExitReason, Panicked, Phase},
};

thread_local! {
    /// The incarnation being polled. Only its token, because it is set around every poll and must be cheap.
    static NOW: Cell<Option<Token>> = const { Cell::new(None) };
    /// Every incarnation on this thread, looked up only when an actor's code reports something.
    static LIVING: RefCell<HashMap<Token, Rc<Current>>> = RefCell::default();
}

/// State that the code of an incarnation shares with the wrapper that polls it.
pub(crate) struct Current {
    control: Arc<Control>,
    watch: Option<Arc<dyn Watch>>,
    ready: Cell<bool>,
    healthy: Cell<bool>,
    phase: Cell<Phase>,
    exit: RefCell<Option<ExitReason>>,
    /// The panic that ended the incarnation. Set until its value and context are dropped.
    panic: RefCell<Option<Panicked>>,
}

impl Current {
    pub(crate) fn new(control: Arc<Control>, watch: Option<Arc<dyn Watch>>) -> Rc<Self> {
        let current = Rc::new(Self {
            control,
            watch,
            ready: Cell::new(false),
            healthy: Cell::new(false),
            phase: Cell::new(Phase::Factory),
            exit: RefCell::new(None),
            panic: RefCell::new(None),
        });
        LIVING.with_borrow_mut(|living| living.insert(current.control.token(), current.clone()));
        current
    }

    /// Forgets this incarnation.
    pub(crate) fn retire(&self) {
        // Fails only while the thread's locals are being destroyed. Nobody looks it up then.
        let _ = LIVING.try_with(|living| living.borrow_mut().remove(&self.control.token()));
    }

    /// Runs `code` as part of this incarnation.
    #[inline]
    pub(crate) fn enter<T>(&self, code: impl FnOnce() -> T) -> T {
        struct Restore(Option<Token>);
        impl Drop for Restore {
            #[inline]
            fn drop(&mut self) {
                NOW.set(self.0);
            }
        }
        let _restore = Restore(NOW.replace(Some(self.control.token())));
        code()
    }

    /// The incarnation being polled on this thread, if there is one.
    pub(crate) fn get() -> Option<Rc<Self>> {
        let now = NOW.get()?;
        LIVING.try_with(|living| living.borrow().get(&now).cloned()).ok().flatten()
    }

    /// Sets why the incarnation is about to end. The first reason counts, because later ones are its consequences.
    pub(crate) fn set_exit(&self, reason: ExitReason) {
        self.exit.borrow_mut().get_or_insert(reason);
    }

    pub(crate) fn take_exit(&self) -> Option<ExitReason> {
        self.exit.borrow_mut().take()
    }

    pub(crate) fn set_panic(&self, panic: Panicked) {
        self.panic.replace(Some(panic));
    }

    pub(crate) fn panic(&self) -> Option<Panicked> {
        self.panic.borrow().clone()
    }

    #[inline]
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Reports that the actor is ready. Only the first call counts.
    pub(crate) fn ready(&self) {
        if !self.ready.replace(true)
            && let Some(watch) = &self.watch
            && !self.control.is_killed()
        {
            watch.signal(self.control.token(), Signal::Ready);
        }
    }

    /// Reports that the actor is healthy. Only the first call counts.
    pub(crate) fn healthy(&self) {
        if !self.healthy.replace(true)
            && let Some(watch) = &self.watch
            && !self.control.is_killed()
        {
            watch.signal(self.control.token(), Signal::Healthy);
        }
    }
}

impl Panicked {
    /// The panic that ended a supervised actor, while the actor's value and context are dropped on this thread. A value
    /// that lives in the actor can call this from its own `drop` to learn why it is dropped. `None` at any other time.
    #[must_use]
    pub fn of_the_actor_being_dropped() -> Option<Self> {
        Current::get()?.panic()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Signal>>);

    impl Watch for Heard {
        fn signal(&self, _: Token, signal: Signal) {
            self.0.lock().unwrap().push(signal);
        }
    }

    /// A supervisor's inbox is bounded because of this.
    #[test]
    fn readiness_is_reported_once_however_often_it_is_said() {
        let heard = Arc::new(Heard::default());
        let current = Current::new(Arc::new(Control::new()), Some(heard.clone()));
        current.ready();
        current.ready();
        assert!(matches!(heard.0.lock().unwrap()[..], [Signal::Ready]));
    }

    #[test]
    fn a_killed_incarnation_says_nothing_more() {
        let heard = Arc::new(Heard::default());
        let control = Arc::new(Control::new());
        let current = Current::new(control.clone(), Some(heard.clone()));
        let report = crate::control::Report::new(control.clone(), heard.clone());
        control.kill();
        current.ready();
        drop(report);
        assert!(heard.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_outer_incarnation_is_current_again_after_an_inner_one_even_if_that_panics() {
        let current = || Current::new(Arc::new(Control::new()), None);
        let (outer, inner) = (current(), current());
        outer.enter(|| {
            let crash = std::panic::AssertUnwindSafe(|| inner.enter(|| panic!("inside")));
            std::panic::catch_unwind(crash).unwrap_err();
            assert!(Current::get().is_some_and(|now| Rc::ptr_eq(&now, &outer)));
        });
        assert!(Current::get().is_none());
    }

    #[test]
    fn no_trace_is_left_of_an_incarnation_that_has_ended() {
        struct Nobody;
        impl actix::Actor for Nobody {
            type Context = actix::Context<Self>;
        }
        let living = || LIVING.with_borrow(HashMap::len);
        actix_rt::System::new().block_on(async {
            let app = crate::SupervisorSpec::new("app").child(crate::ActorSpec::new("nobody", || Nobody)).start();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert_eq!(living(), 2);
            app.shutdown().await;
            tokio::task::yield_now().await;
            assert_eq!(living(), 0);
        });
    }
}
