//! Which handler of an actor is called for a message.

use std::marker::PhantomData;

use actix::{Actor, Context, Handler};

use crate::{
    base::one_of::Types,
    consume::{
        attempt::crash::Crash,
        handler::{
            adapter::{Adapter, AllAtOnce, OneByOne, OneOfEach},
            answer::{self, Reply},
            around::Handlings,
            batch::DeliveryBatch,
            delivery::Delivery,
            handles::{HandledBy, WithHandler},
        },
    },
};

/// An adapter that calls handlers of the actor `A`.
pub(crate) trait Calls<A: Actor<Context = Context<A>>>: Adapter + Sized {
    /// Calls the handler of `message`, inside its middleware.
    fn call(message: Self::Message, around: Handlings, actor: &mut A, ctx: &mut Context<A>) -> Reply<Self>;
}

impl<A, T, R> Calls<A> for OneByOne<T, R>
where
    A: Actor<Context = Context<A>> + Handler<Delivery<T, R>, Result: 'static>,
    T: 'static,
    R: 'static,
{
    fn call(message: Self::Message, around: Handlings, actor: &mut A, ctx: &mut Context<A>) -> Reply<Self> {
        answer::call(message, around, actor, ctx)
    }
}

impl<A, T> Calls<A> for AllAtOnce<T>
where
    A: Actor<Context = Context<A>> + Handler<DeliveryBatch<T>, Result: 'static>,
    T: 'static,
{
    fn call(message: Self::Message, around: Handlings, actor: &mut A, ctx: &mut Context<A>) -> Reply<Self> {
        answer::call(message, around, actor, ctx)
    }
}

impl<A, L, R> Calls<A> for OneOfEach<L, R>
where
    A: Actor<Context = Context<A>>,
    L: HandledBy<A, R>,
    R: 'static,
{
    fn call(message: Self::Message, around: Handlings, actor: &mut A, ctx: &mut Context<A>) -> Reply<Self> {
        L::with_handler_of(message, Call { around, actor, ctx, types: PhantomData::<L> })
    }
}

/// A call of the handler of one of the types `L`.
struct Call<'a, A: Actor<Context = Context<A>>, L> {
    around: Handlings,
    actor: &'a mut A,
    ctx: &'a mut Context<A>,
    types: PhantomData<L>,
}

impl<A: Actor<Context = Context<A>>, L: Types, R: 'static> WithHandler<A, R> for Call<'_, A, L> {
    type Said = Reply<OneOfEach<L, R>>;

    fn call<T: 'static>(self, message: Delivery<T, R>) -> Self::Said
    where
        A: Handler<Delivery<T, R>, Result: 'static>,
    {
        answer::call(message, self.around, self.actor, self.ctx)
    }

    fn none(self) -> Self::Said {
        Reply::Now(Err(Crash::default()))
    }
}
