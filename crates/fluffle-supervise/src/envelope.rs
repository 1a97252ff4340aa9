//! Messages of any type, boxed for a mailbox.

use std::any::Any;

use actix::{Actor, AsyncContext, Handler, Message, dev::MessageResponse};
use tokio::sync::oneshot;

/// A message and the channel for its reply.
struct Parcel<M: Message> {
    msg: M,
    /// `None` when nobody waits for the reply.
    reply: Option<oneshot::Sender<M::Result>>,
}

/// A [`Parcel`] with its message type erased, to be delivered to an `A`.
trait Deliver<A: Actor>: Send {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut A::Context);
    fn wants_reply(&self) -> bool;
    fn take_reply(&mut self) -> Reply;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<A, M> Deliver<A> for Parcel<M>
where
    A: Actor + Handler<M>,
    A::Context: AsyncContext<A>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut A::Context) {
        let Self { msg, reply } = *self;
        // A panic in here drops the reply, which tells the sender.
        <A as Handler<M>>::handle(actor, msg, ctx).handle(ctx, reply);
    }

    fn wants_reply(&self) -> bool {
        self.reply.is_some()
    }

    fn take_reply(&mut self) -> Reply {
        Reply(Box::new(self.reply.take()))
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A reply channel with its type erased. Dropping it tells the sender that no reply will come.
pub(crate) struct Reply(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Any + Send>);

/// A message of any type to an `A`.
pub(crate) struct Envelope<A: Actor>(Box<dyn Deliver<A>>);

impl<A: Actor> Envelope<A> {
    pub(crate) fn new<M>(msg: M, reply: Option<oneshot::Sender<M::Result>>) -> Self
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Self(Box::new(Parcel { msg, reply }))
    }

    /// Hands the message to the actor.
    pub(crate) fn deliver(self, actor: &mut A, ctx: &mut A::Context) {
        self.0.deliver(actor, ctx);
    }

    /// Whether somebody waits for the reply.
    pub(crate) fn wants_reply(&self) -> bool {
        self.0.wants_reply()
    }

    /// Takes the reply channel out. Dropping it tells the sender that no reply will come.
    pub(crate) fn take_reply(&mut self) -> Reply {
        self.0.take_reply()
    }

    /// Unpacks the message. `None` if its type is not `M`.
    pub(crate) fn open<M: Message + 'static>(self) -> Option<M> {
        self.0.into_any().downcast::<Parcel<M>>().ok().map(|parcel| parcel.msg)
    }
}
