//! Carries messages from a child's mailbox to one incarnation of its actor.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as Task, Poll},
};

use actix::{Actor, AsyncContext, Context, fut::ActorFuture};

use crate::{control::Token, current::Current, exit::Phase, mailbox::Mailbox};

/// How many messages are handled before the actor's other futures and its thread's other tasks get their turn.
const BUDGET: usize = 64;

/// A future in the actor's own context. It has `&mut A`, so handling a message costs no second mailbox; and being an
/// item of the context, it keeps an actor alive that nobody holds an actix address of.
pub(crate) struct Pump<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    reader: Token,
    current: Rc<Current>,
    /// Whether taking the first look at the mailbox is what makes the actor ready.
    reports_ready: bool,
}

impl<A: Actor> Pump<A> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, reader: Token, current: Rc<Current>, reports_ready: bool) -> Self {
        Self { mailbox, reader, current, reports_ready }
    }
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, task: &mut Task<'_>) -> Poll<()> {
        // An actor that is polled here has started, and what it told its context to wait for is done.
        self.current.set_phase(Phase::Future);
        if self.reports_ready {
            self.reports_ready = false;
            self.current.ready();
        }
        for _ in 0..BUDGET {
            // The context polls its items again when the wait is over: no waker is needed.
            if ctx.waiting() {
                return Poll::Pending;
            }
            let Poll::Ready((envelope, more)) = self.mailbox.poll_next(self.reader, task) else {
                return Poll::Pending;
            };
            self.current.set_phase(Phase::Handler);
            envelope.deliver(actor, ctx);
            self.current.set_phase(Phase::Future);
            if !more {
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
