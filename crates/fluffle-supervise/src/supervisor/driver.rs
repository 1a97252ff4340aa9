//! Polls a supervisor's decisions when a child sends a signal or a deadline is due.

use std::{
    pin::Pin,
    task::{Context as Task, Poll},
};

use actix::{ActorContext, Context, fut::ActorFuture};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    current::Current,
    exit::ExitReason,
    supervisor::{Supervisor, family::Next},
};

/// A future in the supervisor's context. It lives as long as the supervisor.
#[derive(Default)]
pub(crate) struct Driver {
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
