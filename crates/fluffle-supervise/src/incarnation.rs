//! One incarnation of an actor: from the factory to exactly one exit report.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
};

use actix::{Actor, ActorContext, ActorState, AsyncContext, Context, dev::ContextFut};
use tokio::runtime::Handle;

use crate::{
    control::{Control, Report},
    current::Current,
    exit::{ExitError, ExitReason, Panicked, Phase},
    mailbox::{AnyMailbox, Mailbox},
    pump::Pump,
};

/// A function that runs with the context of each incarnation before `started`.
pub(crate) type Hook<A> = dyn Fn(&mut Context<A>) + Send + Sync;

/// How to make an incarnation. Shared by all incarnations of a child.
pub(crate) struct Recipe<A: Actor<Context = Context<A>>> {
    pub(crate) factory: Box<dyn Fn() -> A + Send + Sync>,
    pub(crate) hooks: Vec<Box<Hook<A>>>,
    pub(crate) mailbox: Arc<Mailbox<A>>,
    pub(crate) reports_ready: bool,
}

impl<A: Actor<Context = Context<A>>> Recipe<A> {
    fn make(&self, current: &Rc<Current>, control: &Control) -> ContextFut<A, Context<A>> {
        let mut ctx = Context::new();
        let pump = Pump::new(self.mailbox.clone(), control.token(), current.clone(), !self.reports_ready);
        ctx.spawn(pump);
        let actor = (self.factory)();
        for hook in &self.hooks {
            hook(&mut ctx);
        }
        ctx.into_future(actor)
    }
}

/// Runs an actor on the thread on which it was spawned: polls the actor's context under `catch_unwind`, passes the
/// supervisor's stop request on to it, and reports how it ended.
struct Incarnation<A: Actor<Context = Context<A>>> {
    recipe: Arc<Recipe<A>>,
    actor: Option<ContextFut<A, Context<A>>>,
    current: Rc<Current>,
    /// The waker registered for the stop request. Kept to avoid registering it again in each poll.
    waker: Option<Waker>,
    stopping: bool,
    report: Report,
    /// The runtime on which the incarnation was spawned.
    runtime: Handle,
}

/// Starts an incarnation on this thread.
///
/// # Panics
/// Outside an actix system or `LocalSet`, as `actix_rt::spawn` does.
pub(crate) fn spawn<A: Actor<Context = Context<A>>>(recipe: Arc<Recipe<A>>, report: Report) {
    let control = report.control().clone();
    let current = Current::new(control.clone(), report.watch());
    recipe.mailbox.attach(control.token());
    let runtime = Handle::current();
    let task =
        actix_rt::spawn(Incarnation { recipe, actor: None, current, waker: None, stopping: false, report, runtime });
    control.adopt(task.abort_handle());
}

impl<A: Actor<Context = Context<A>>> Incarnation<A> {
    /// Runs `code` of the actor as the current incarnation and catches a panic.
    fn run<T>(current: &Rc<Current>, code: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
        // Unwind safe: the actor's value is dropped after a panic, and everything else is behind locks that are not
        // held while the actor's code runs.
        current.enter(|| catch_unwind(AssertUnwindSafe(code)))
    }

    /// Passes a stop request on to the actor. Done here and not in a future of the context, because the context does
    /// not poll its futures while it waits for one.
    fn heed_stop(&mut self, task: &Task<'_>) {
        let control = self.report.control();
        if self.stopping {
            return;
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            control.wake_on_stop(task);
            self.waker = Some(task.waker().clone());
        }
        if control.stop_requested() {
            self.stopping = true;
            if let Some(actor) = &mut self.actor {
                actor.ctx().stop();
            }
        }
    }

    fn crashed(&mut self, payload: &(dyn Any + Send)) -> ExitReason {
        let mut phase = self.current.phase();
        if let Some(actor) = &mut self.actor {
            phase = match (phase, actor.ctx().state()) {
                (Phase::Handler, _) => Phase::Handler,
                (_, ActorState::Stopping) => Phase::Stopping,
                (_, ActorState::Stopped) => Phase::Stopped,
                (phase, _) => phase,
            };
            // Without this, the drop would run `stopping` and `stopped` on the broken value.
            actor.ctx().terminate();
        }
        let panicked = Panicked::new(payload, phase);
        self.current.set_panic(panicked.clone());
        ExitReason::Panicked(panicked)
    }

    fn end(&mut self, mut reason: ExitReason) {
        if let Err(payload) = self.drop_actor()
            && reason.is_normal()
        {
            reason = ExitReason::Panicked(Panicked::new(&*payload, Phase::Drop));
        }
        self.report.exited(reason);
    }

    fn drop_actor(&mut self) -> Result<(), Box<dyn Any + Send>> {
        // If an actor is dropped alive, actix polls it once more. That poll must find no messages.
        self.recipe.mailbox.detach(self.report.control().token());
        let actor = self.actor.take();
        Self::run(&self.current, || drop(actor))
    }
}

impl<A: Actor<Context = Context<A>>> Future for Incarnation<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.heed_stop(task);
        if this.report.control().is_doomed() {
            this.end(ExitReason::Failed(Arc::new(ExitError::transient(KilledOnRequest))));
            return Poll::Ready(());
        }
        let actor = match &mut this.actor {
            Some(actor) => actor,
            None if this.stopping => {
                this.end(ExitReason::Stopped);
                return Poll::Ready(());
            }
            None => match Self::run(&this.current, || this.recipe.make(&this.current, this.report.control())) {
                Ok(actor) => {
                    this.current.set_phase(Phase::Started);
                    this.actor.insert(actor)
                }
                Err(payload) => {
                    let reason = this.crashed(&*payload);
                    this.end(reason);
                    return Poll::Ready(());
                }
            },
        };
        let reason = match Self::run(&this.current, || Pin::new(actor).poll(task)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => match this.current.take_exit() {
                Some(reason) => reason,
                None if this.stopping => ExitReason::Stopped,
                None => ExitReason::Finished,
            },
            Err(payload) => this.crashed(&*payload),
        };
        this.end(reason);
        Poll::Ready(())
    }
}

/// Why an incarnation ended that a handle killed.
#[derive(Debug, thiserror::Error)]
#[error("killed on request (`SupervisorHandle::kill`)")]
struct KilledOnRequest;

impl<A: Actor<Context = Context<A>>> Drop for Incarnation<A> {
    /// Also runs when the arbiter died or the supervisor killed the incarnation. Then nobody is left to hear of a
    /// panic.
    fn drop(&mut self) {
        // When an arbiter ends, it drops its tasks outside its runtime, and actix polls an actor once more that is
        // dropped alive. Without this, a timer that such a poll makes would panic.
        let runtime = self.runtime.clone();
        let _entered = runtime.enter();
        let _ = self.drop_actor();
        self.current.retire();
    }
}
