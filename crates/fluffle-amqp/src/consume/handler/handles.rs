//! The traits of actors that can handle deliveries or batches, with hints that the compiler prints for other actors.

use actix::{Actor, Context, Handler};

use crate::{
    base::{
        one_of::{OneOf, Types},
        payload::Payload,
    },
    consume::handler::{batch::DeliveryBatch, delivery::Delivery},
};

/// An actor that handles deliveries of `T` and answers with `R`.
///
/// Implemented for every actix actor with the ordinary `Context` and a `Handler<Delivery<T, R>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle deliveries of `{T}`",
    label = "needs `impl Handler<Delivery<{T}>> for {Self}` and `type Context = Context<Self>`",
    note = "the factory given to `consume` must return a new actor each time: `move || Alerts {{ out: out.clone() }}`",
    note = "an actor that handles several types of one queue: `consume_types(Consume::<OneOf<(A, B)>>::queue(…), …)`",
    note = "for requests, name the type of the answer too: `Handler<Delivery<Question, Answer>>`"
)]
pub trait Handles<T, R = ()>: Actor<Context = Context<Self>> + Handler<Delivery<T, R>, Result: 'static>
where
    T: 'static,
    R: 'static,
{
}

impl<A, T, R> Handles<T, R> for A
where
    A: Actor<Context = Context<A>> + Handler<Delivery<T, R>, Result: 'static>,
    T: 'static,
    R: 'static,
{
}

/// An actor that handles batches of `T`.
///
/// Implemented for every actix actor with the ordinary `Context` and a `Handler<DeliveryBatch<T>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle batches of `{T}`",
    label = "needs `impl Handler<DeliveryBatch<{T}>> for {Self}` and `type Context = Context<Self>`",
    note = "to handle the messages of a batch one by one, implement `Handler<Delivery<{T}>>` and use `consume`"
)]
pub trait HandlesBatches<T>: Actor<Context = Context<Self>> + Handler<DeliveryBatch<T>, Result: 'static>
where
    T: 'static,
{
}

impl<A, T> HandlesBatches<T> for A
where
    A: Actor<Context = Context<A>> + Handler<DeliveryBatch<T>, Result: 'static>,
    T: 'static,
{
}

/// An actor that handles deliveries of each of the types `L`, and answers each with `R`.
///
/// Implemented for every actor that [handles](Handles) each type of the tuple `L`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle deliveries of each of `{L}`",
    label = "needs `impl Handler<Delivery<T>> for {Self}` for each `T` of `{L}`, and `type Context = Context<Self>`"
)]
pub trait HandlesEach<L: Types, R = ()>: Actor<Context = Context<Self>>
where
    R: 'static,
{
    /// Calls `with` with the message, and the knowledge that this actor handles messages of its type.
    #[doc(hidden)]
    fn with_handler_of<W: WithHandler<Self, R>>(message: Delivery<OneOf<L>, R>, with: W) -> W::Said;
}

/// Calls a handler of the actor `A`, or answers that there is none.
#[doc(hidden)]
pub trait WithHandler<A: Actor<Context = Context<A>>, R: 'static> {
    type Said;

    fn call<T: 'static>(self, message: Delivery<T, R>) -> Self::Said
    where
        A: Handler<Delivery<T, R>, Result: 'static>;

    /// The message is of none of the types.
    fn none(self) -> Self::Said;
}

macro_rules! handles_each {
    ($($T:ident)+) => {
        impl<Of, R, $($T),+> HandlesEach<($($T,)+), R> for Of
        where
            Of: Actor<Context = Context<Of>> $(+ Handles<$T, R>)+,
            R: 'static,
            $($T: Payload,)+
        {
            fn with_handler_of<W: WithHandler<Of, R>>(message: Delivery<OneOf<($($T,)+)>, R>, with: W) -> W::Said {
                $(let message = match message.of::<$T>() {
                    Ok(message) => return with.call(message),
                    Err(other) => other,
                };)+
                drop(message);
                with.none()
            }
        }
    };
}

handles_each!(A);
handles_each!(A B);
handles_each!(A B C);
handles_each!(A B C D);
handles_each!(A B C D E);
handles_each!(A B C D E F);
handles_each!(A B C D E F G);
handles_each!(A B C D E F G H);
handles_each!(A B C D E F G H I);
handles_each!(A B C D E F G H I J);
handles_each!(A B C D E F G H I J K);
handles_each!(A B C D E F G H I J K M);
