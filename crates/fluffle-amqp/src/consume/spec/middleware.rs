//! What an application runs around the handling of each delivery.

use std::{fmt, sync::Arc};

use fluffle_wire::headers::TraceContext;

use crate::{
    base::failure::Failure,
    consume::message::{delivery_info::DeliveryInfo, settled::Settled},
};

/// Code of the application around each call of a handler: it sees the message's labels and headers before, may refuse
/// the message, and sees the handler's result after. Handlers do not change. For tracing spans, metrics, authorisation.
///
/// [`Consume::middleware`](crate::Consume::middleware) adds one to a consumer,
/// [`Service::middleware`](crate::Service::middleware) and `App::middleware` to all consumers of a service. It is
/// called middleware because that is the word for it in Rust's web servers (actix-web, axum) and in Watermill;
/// MassTransit says filter, and tower says layer for what adds one.
///
/// # When it is called
/// [`before`](Self::before) is called once for each call of `Handler::handle`, on the handler's thread, after the body
/// was decoded: for a message by itself, for each item of a batch that goes to the handler by itself, and once for a
/// [`DeliveryBatch`](crate::DeliveryBatch). Each attempt is a call. A message that no handler is given (undecodable, a
/// request past its time, already handled) reaches no middleware. `before` must not block: all handler instances of
/// that thread wait for it.
///
/// # Several
/// The first one added is the outermost: its [`before`](Self::before) and [`step`](Handling::step) begin first, and its
/// [`after`](Handling::after) is called last. Those of the service stand outside those of the consumer.
///
/// # Refusal
/// If `before` returns an error, the handler is not called, and the message is treated as if the handler had returned
/// that error: see [`Failure`]. Middleware outside the refusing one gets `after` with [`HandlerResult::Failed`];
/// middleware inside it is not called. The item of a batch is refused by itself. A refusal is not counted by the
/// consumer's [circuit breaker](crate::Consume::circuit_breaker), because the handler, which needs what the breaker
/// guards, was not called. A refusal that becomes a dead letter counts for the
/// [kill switch](crate::Consume::kill_switch).
///
/// # Panics
/// A panic in a middleware is a failed attempt of that message alone, as a handler's panic is, and its text is in the
/// log line and in the dead letter. The handler actor goes on. The other middlewares get `after` as usual, those
/// outside the one that panicked with [`HandlerResult::Crashed`].
///
/// # Example
/// A tracing span around each message, with the message's id and queue, and a check of the header `authorization`:
///
/// ```
/// use fluffle_amqp::{Consume, DeliveryInfo, Failure, HandlerResult, HandlerStep, Handling, Middleware};
///
/// struct Spans;
///
/// impl Middleware for Spans {
///     fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
///         let (queue, message_id) = (delivery.queue(), delivery.message_id());
///         let span = tracing::info_span!("handle", queue, message_id, failed = tracing::field::Empty);
///         Ok(Box::new(InSpan(span)))
///     }
/// }
///
/// struct InSpan(tracing::Span);
///
/// impl Handling for InSpan {
///     fn step(&mut self, step: HandlerStep<'_>) {
///         self.0.in_scope(|| step.run());
///     }
///
///     fn after(self: Box<Self>, result: HandlerResult<'_>) {
///         self.0.record("failed", !matches!(result, HandlerResult::Handled));
///     }
/// }
///
/// struct Authorised { token: String }
///
/// impl Middleware for Authorised {
///     fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
///         match delivery.header("authorization") {
///             Some(token) if token == self.token => Ok(Box::new(())), // nothing to do after
///             Some(_) => Err(Failure::reject("the token in the header `authorization` is not valid")),
///             None => Err(Failure::reject("the message has no header `authorization`")),
///         }
///     }
/// }
///
/// let orders: Consume<String> = Consume::queue("orders")
///     .middleware(Spans) // outermost: its span records what the next one refuses
///     .middleware(Authorised { token: "s3cret".to_owned() });
/// ```
///
/// (Compare real secrets in constant time.)
pub trait Middleware: Send + Sync + 'static {
    /// A handler is about to be given a message.
    ///
    /// The [`Handling`] follows this one handling until the handler's result is there. `Box::new(())` does nothing
    /// more, and allocates nothing.
    ///
    /// # Errors
    /// Refuses the message: the handler is not called, and the error decides what becomes of the message.
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure>;
}

impl<M: Middleware + ?Sized> Middleware for Arc<M> {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        (**self).before(delivery)
    }
}

/// A [`Middleware`]'s part in the handling of one message. It stays on the handler's thread, so it need not be `Send`.
pub trait Handling: 'static {
    /// Runs `step`: the call of `Handler::handle`, or one poll of the future that the handler returned. To hold a guard
    /// or a task-local value while the handler's code runs, run the step inside it, as in the example of
    /// [`Middleware`].
    ///
    /// Each poll of a `ResponseFuture` and of a `ResponseActFuture` is a step. The polls of an `AtomicResponse` are
    /// not, because actix gives no access to the future inside; neither are tasks that the handler spawns. For these,
    /// only the call of `handle` is a step.
    ///
    /// If this returns without having run `step`, `step` is run then. A panic of the handler passes this method by:
    /// here the step returns as usual, and `after` gets [`HandlerResult::Crashed`].
    fn step(&mut self, step: HandlerStep<'_>) {
        step.run();
    }

    /// The span of this handling, if this middleware makes one. Asked once, right after [`Middleware::before`]. It is
    /// the [current trace](crate::trace::current) of the handler's code, and the next attempt can link it:
    /// [`DeliveryInfo::last_attempt_trace`]. If several middlewares give a span, the handler's code belongs to the
    /// innermost, and the next attempt links the outermost.
    fn trace(&self) -> Option<TraceContext> {
        None
    }

    /// Whether [`step`](Self::step) and [`after`](Self::after) do nothing, for this message. Asked once, right after
    /// [`Middleware::before`]. If so, they are not called, and the handling is dropped at once, which saves an
    /// allocation.
    fn is_idle(&self) -> bool {
        false
    }

    /// What to call when the message is settled, some time after [`after`](Self::after): with an item of a batch, when
    /// that becomes of the item. Asked once, right after [`Middleware::before`]. It is called on the handler's thread,
    /// and never if that thread ends first. Each one costs a task.
    fn on_settled(&self) -> Option<Box<dyn FnOnce(Settled)>> {
        None
    }

    /// The handler's result is there. Called once, on the handler's thread, before the message is settled; also for a
    /// result that comes after [`handler_timeout`](crate::Consume::handler_timeout), and with
    /// [`HandlerResult::Crashed`] if the handler crashed or its actor ended. A handler that never answers is followed
    /// by no `after` until its actor ends.
    ///
    /// It says what the handler did, not what becomes of the message; the latter is
    /// [`Delivery::settled`](crate::Delivery::settled).
    fn after(self: Box<Self>, result: HandlerResult<'_>) {
        let _ = result;
    }
}

/// Does nothing, and is not kept.
impl Handling for () {
    fn is_idle(&self) -> bool {
        true
    }
}

/// The call of a handler, or one poll of the future that it returned.
#[must_use = "the handler's code runs when `run` is called"]
pub struct HandlerStep<'a>(&'a mut dyn FnMut());

impl<'a> HandlerStep<'a> {
    pub(crate) fn new(run: &'a mut dyn FnMut()) -> Self {
        Self(run)
    }

    /// Runs the handler's code.
    pub fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for HandlerStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerStep").finish_non_exhaustive()
    }
}

/// What a handler did with a message, for [`Handling::after`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum HandlerResult<'a> {
    /// `Ok`: the message was handled; of a batch, all of it.
    Handled,
    /// `Err`, or a middleware further inside has refused the message.
    Failed(&'a Failure),
    /// The handler of a [`DeliveryBatch`](crate::DeliveryBatch) has handled some messages and not these: their numbers,
    /// as [`DeliveryBatch::iter`](crate::DeliveryBatch::iter) yields them, and why. Never empty.
    ItemsFailed(&'a [(usize, Failure)]),
    /// The handler panicked, or its actor ended before it answered; or a middleware further inside panicked.
    Crashed,
}
