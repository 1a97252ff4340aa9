//! What can be sent and handled, in words the compiler repeats when something is missing.

use actix::{Actor, Context, Handler};
use prost::{Message, Name};

use crate::consume::handler::{batch::DeliveryBatch, delivery::Delivery};

/// A Protobuf message with a name: what publishers and consumers take without naming a codec.
///
/// Implemented for every prost message that was generated with type names, as `fluffle-build` does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Protobuf message with a name",
    label = "needs `prost::Message`, `prost::Name` and `Default`",
    note = "generate it from a .proto file with `fluffle_build::compile` (prost with type names)",
    note = "or bring a codec of your own: `Route::coded`, `Consume::coded`"
)]
pub trait Payload: Message + Name + Default + 'static {}

impl<M: Message + Name + Default + 'static> Payload for M {}

/// An actor that handles deliveries of `T`, answering with `R`.
///
/// Implemented for every actix actor with the ordinary `Context` and a `Handler<Delivery<T, R>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle deliveries of `{T}`",
    label = "needs `impl Handler<Delivery<{T}>> for {Self}` and `type Context = Context<Self>`",
    note = "the factory given to `consume` must return a fresh actor each time, like `move || Alerts {{ out: out.clone() }}`",
    note = "an actor that handles several types consumes each from a queue of its own: `Consume::<T>::queue(…)`",
    note = "for requests the answer's type belongs there too: `Handler<Delivery<Question, Answer>>`"
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
    note = "to be given the messages of a batch one by one: `Handler<Delivery<{T}>>` and `consume`"
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
