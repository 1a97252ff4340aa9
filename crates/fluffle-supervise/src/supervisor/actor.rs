//! The actor around a supervisor's decisions, and the future that drives them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use actix::{Actor, ActorContext, AsyncContext, Context, Running, fut::ActorFuture};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    context::SupervisedContext,
    current::Current,
    exit::{ExitError, ExitReason},
    supervisor::{
        core::Core,
        error::StartChildError,
        family::{Family, Next},
    },
};

/// One incarnation of a supervisor. The decisions are made in [`Family`]; this is the actor around it.
pub(crate) struct Supervisor {
    core: Arc<Core>,
    pub(super) family: Family,
}

impl Supervisor {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let family = Family::new(&core);
        Self { core, family }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(id) = self.core.duplicate() {
            // Permanent, because this is a mistake in the program that no restart can repair.
            ctx.fail(ExitError::permanent(StartChildError::Duplicate { id }));
            return;
        }
        self.family.gather(&self.core);
        ctx.spawn(Driver::default());
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.family.end() {
            Running::Stop
        } else {
            // The driver stops the context again when the last child is down.
            Running::Continue
        }
    }
}

/// Polls the supervisor's decisions when a child sends a signal or a deadline is due. A future in the supervisor's
/// context, which lives as long as the supervisor.
#[derive(Default)]
struct Driver {
    clock: Option<Pin<Box<Sleep>>>,
}

impl ActorFuture<Supervisor> for Driver {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        supervisor: &mut Supervisor,
        ctx: &mut Context<Supervisor>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        let family = &mut supervisor.family;
        family.listen(task);
        family.heed_signals(Instant::now());
        loop {
            match family.advance(Instant::now()) {
                Next::Signal => return Poll::Pending,
                Next::Clock(at) => {
                    let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    clock.as_mut().reset(at);
                    if clock.as_mut().poll(task).is_pending() {
                        return Poll::Pending;
                    }
                }
                Next::Ready => {
                    if let Some(current) = Current::get() {
                        current.ready();
                    }
                }
                Next::End(escalation) => {
                    if let (Some(escalation), Some(current)) = (escalation, Current::get()) {
                        current.set_exit(ExitReason::Escalated(escalation));
                    }
                    ctx.stop();
                    return Poll::Pending;
                }
            }
        }
    }
}
