//! Delivers messages from a child's mailbox to one incarnation of its actor.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as Task, Poll},
};

use actix::{Actor, AsyncContext, Context, fut::ActorFuture};

use crate::{control::Token, current::Current, exit::Phase, mailbox::Mailbox};

/// How many messages are handled in one poll, before the actor's other futures and the thread's other tasks get their
/// turn.
const BUDGET: usize = 64;

/// A future in the actor's own context. It gets `&mut A`, so handling a message needs no second mailbox. As an item of
/// the context it also keeps an actor alive to which nobody holds an actix address.
pub(crate) struct Pump<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    reader: Token,
    current: Rc<Current>,
    /// Whether the first poll reports the actor as ready.
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
        // actix polls this only when the actor has started and every future that it told its context to wait for is
        // done.
        self.current.set_phase(Phase::Future);
        if self.reports_ready {
            self.reports_ready = false;
            self.current.ready();
        }
        for _ in 0..BUDGET {
            // No waker is needed: the context polls its items again when the wait is over.
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
