//! The traits of actors that can handle deliveries or batches, with hints that the compiler prints for other actors.

use actix::{Actor, Context, Handler};

use crate::consume::handler::{batch::DeliveryBatch, delivery::Delivery};

/// An actor that handles deliveries of `T` and answers with `R`.
///
/// Implemented for every actix actor with the ordinary `Context` and a `Handler<Delivery<T, R>>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle deliveries of `{T}`",
    label = "needs `impl Handler<Delivery<{T}>> for {Self}` and `type Context = Context<Self>`",
    note = "the factory given to `consume` must return a new actor each time: `move || Alerts {{ out: out.clone() }}`",
    note = "an actor that handles several types consumes each from a queue of its own: `Consume::<T>::queue(…)`",
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
