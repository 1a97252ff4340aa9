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

/// A tuple of message types, each of which the actor `A` handles and answers with `R`.
///
/// Implemented for every tuple of 1 to 12 types that the actor [handles](Handles).
#[diagnostic::on_unimplemented(
    message = "`{A}` does not handle deliveries of each of `{Self}`",
    label = "needs `impl Handler<Delivery<T>> for {A}` for each `T` of `{Self}`, and `type Context = Context<Self>`"
)]
pub trait HandledBy<A: Actor<Context = Context<A>>, R = ()>: Types
where
    R: 'static,
{
    /// Calls `with` with the message, and the knowledge that the actor handles messages of its type.
    #[doc(hidden)]
    fn with_handler_of<W: WithHandler<A, R>>(message: Delivery<OneOf<Self>, R>, with: W) -> W::Said;
}

/// [`Handles`], for one type of a tuple, so that the compiler names the type without a handler, not the whole tuple. It
/// prints these hints only because of `do_not_recommend`, and because `Handles` is not a supertrait.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle deliveries of `{T}`, which is one of the types of its queue",
    label = "needs `impl Handler<Delivery<{T}>> for {Self}`",
    note = "write:\nimpl Handler<Delivery<{T}>> for {Self} {{\n    type Result = Result<(), Failure>;\n\n    \
            fn handle(&mut self, message: Delivery<{T}>, _: &mut Self::Context) -> Self::Result {{\n        \
            Ok(())\n    }}\n}}",
    note = "the answer has the type `{R}`; for another than `()`, write `Delivery<{T}, {R}>` and `Result<{R}, Failure>`"
)]
pub trait HandlesOneOf<T, R>: Actor<Context = Context<Self>>
where
    T: 'static,
    R: 'static,
{
    fn with_handler<W: WithHandler<Self, R>>(message: Delivery<T, R>, with: W) -> W::Said;
}

#[diagnostic::do_not_recommend]
impl<A, T, R> HandlesOneOf<T, R> for A
where
    A: Handles<T, R>,
    T: 'static,
    R: 'static,
{
    fn with_handler<W: WithHandler<A, R>>(message: Delivery<T, R>, with: W) -> W::Said {
        with.call(message)
    }
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

macro_rules! handled_by {
    ($($T:ident)+) => {
        impl<Of, R, $($T),+> HandledBy<Of, R> for ($($T,)+)
        where
            Of: Actor<Context = Context<Of>> $(+ HandlesOneOf<$T, R>)+,
            R: 'static,
            $($T: Payload,)+
        {
            fn with_handler_of<W: WithHandler<Of, R>>(message: Delivery<OneOf<Self>, R>, with: W) -> W::Said {
                $(let message = match message.of::<$T>() {
                    Ok(message) => return <Of as HandlesOneOf<$T, R>>::with_handler(message, with),
                    Err(other) => other,
                };)+
                drop(message);
                with.none()
            }
        }
    };
}

handled_by!(A);
handled_by!(A B);
handled_by!(A B C);
handled_by!(A B C D);
handled_by!(A B C D E);
handled_by!(A B C D E F);
handled_by!(A B C D E F G);
handled_by!(A B C D E F G H);
handled_by!(A B C D E F G H I);
handled_by!(A B C D E F G H I J);
handled_by!(A B C D E F G H I J K);
handled_by!(A B C D E F G H I J K M);
