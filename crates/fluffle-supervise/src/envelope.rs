//! A message on its way, which its sender can take back until the actor takes it.

use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, AsyncContext, Handler, Message, dev::MessageResponse};
use tokio::sync::oneshot;

use crate::mailbox::Mailbox;

/// A message and the way back for its reply, shared by the sender and the envelope in the mailbox. Whoever finds the
/// message there may take it; nobody finds it twice.
pub(crate) struct Parcel<M: Message> {
    state: Mutex<State<M>>,
}

enum State<M: Message> {
    Waiting {
        msg: M,
        /// `None` when nobody waits for the reply: it was posted, or the mailbox closed.
        reply: Option<oneshot::Sender<M::Result>>,
    },
    Taken,
}

impl<M: Message> Parcel<M> {
    pub(crate) fn new(msg: M, reply: Option<oneshot::Sender<M::Result>>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting { msg, reply }) })
    }

    fn take(&self) -> Option<(M, Option<oneshot::Sender<M::Result>>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting { msg, reply } => Some((msg, reply)),
            State::Taken => None,
        }
    }

    /// The message, unless the actor has it.
    pub(crate) fn take_back(&self) -> Option<M> {
        self.take().map(|(msg, _)| msg)
    }
}

/// A parcel as the mailbox of an `A` sees it.
trait Deliver<A: Actor>: Send + Sync {
    fn deliver(&self, mailbox: &Mailbox<A>, actor: &mut A, ctx: &mut A::Context);
    fn abandon(&self) -> bool;
    fn is_taken(&self) -> bool;
}

impl<A, M> Deliver<A> for Parcel<M>
where
    A: Actor + Handler<M>,
    A::Context: AsyncContext<A>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn deliver(&self, mailbox: &Mailbox<A>, actor: &mut A, ctx: &mut A::Context) {
        let Some((msg, reply)) = self.take() else {
            mailbox.passed_withdrawn();
            return;
        };
        mailbox.release();
        // A panic from here on drops the reply: that is how the sender learns of it.
        <A as Handler<M>>::handle(actor, msg, ctx).handle(ctx, reply);
    }

    fn abandon(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Waiting { reply, .. } = &mut *state else {
            return false;
        };
        let reply = reply.take();
        drop(state);
        // Dropping the reply outside the lock: it wakes the sender, which comes for the message.
        reply.is_none()
    }

    fn is_taken(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Taken)
    }
}

/// A parcel in a mailbox. Dropping it leaves the message to its sender, who is told.
pub(crate) struct Envelope<A: Actor>(Arc<dyn Deliver<A>>);

impl<A: Actor> Envelope<A> {
    pub(crate) fn new<M>(parcel: Arc<Parcel<M>>) -> Self
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Self(parcel)
    }

    /// Hands the message to the actor, unless its sender took it back.
    pub(crate) fn deliver(self, mailbox: &Mailbox<A>, actor: &mut A, ctx: &mut A::Context) {
        self.0.deliver(mailbox, actor, ctx);
    }

    /// Tells the sender that the message will not be handled. True if nobody waits to hear it.
    pub(crate) fn abandon(&self) -> bool {
        self.0.abandon()
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_taken()
    }
}

impl<A: Actor> Drop for Envelope<A> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
