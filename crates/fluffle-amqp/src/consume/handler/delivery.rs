//! `Delivery`, the argument of a handler.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use actix::Message;
use fluffle_wire::headers::TraceContext;

use crate::{
    base::{failure::Failure, one_of::OneOf},
    consume::{
        attempt::attempt::Attempt,
        message::{accessors::accessors, item::item_id, progress::StreamPosition, settled::Settled},
    },
};

/// One decoded message and its metadata. Dereferences to the message.
///
/// An actor handles it with a plain actix [`Handler`](actix::Handler). The handler's result decides what becomes of the
/// message. `Ok` acks it, and answers with an `R` if the sender asked for an answer (a batch cannot ask for one). `Err`
/// retries it or makes it a dead letter; see [`Failure`]. The type of the result sets the concurrency:
///
/// | `type Result =` | the next message is handed over |
/// |---|---|
/// | `Result<R, Failure>` | when the handler returns: one at a time, in order |
/// | `AtomicResponse<Self, Result<R, Failure>>` | when the future is done: one at a time, in order |
/// | `ResponseFuture<Result<R, Failure>>` | at once: up to the consumer's `concurrency` at a time, started in order |
/// | `ResponseActFuture<Self, Result<R, Failure>>` | like `ResponseFuture`, with `&mut Self` in each poll |
///
/// The messages of a batch are handed over one after the other, each with a result of its own. To handle a whole batch
/// at once, use [`DeliveryBatch`](crate::DeliveryBatch).
///
/// If the actor panics, the attempt fails for the message in hand, and for messages whose futures run in the actor's
/// context (`AtomicResponse`, `ResponseActFuture`). A `ResponseFuture` runs outside the actor and finishes. Messages
/// that wait for a handler are not affected.
///
/// ```
/// use actix::prelude::*;
/// use fluffle_amqp::{Delivery, Failure};
///
/// struct Printer;
/// impl Actor for Printer { type Context = Context<Self>; }
///
/// impl Handler<Delivery<String>> for Printer {
///     type Result = Result<(), Failure>;
///     fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
///         println!("attempt {}: {}", text.attempt(), text.len());
///         Ok(())
///     }
/// }
/// ```
pub struct Delivery<T, R = ()> {
    message: T,
    attempt: Arc<Attempt>,
    item: Option<Item>,
    reply: PhantomData<fn() -> R>,
}

/// The place of the message in its batch.
struct Item {
    index: usize,
    /// The message's id, built when it is first asked for.
    id: OnceLock<String>,
}

impl<T, R> Delivery<T, R> {
    pub(crate) fn new(message: T, attempt: Arc<Attempt>) -> Self {
        Self { message, attempt, item: None, reply: PhantomData }
    }

    pub(crate) fn item(message: T, attempt: Arc<Attempt>, index: usize) -> Self {
        Self { message, attempt, item: Some(Item { index, id: OnceLock::new() }), reply: PhantomData }
    }

    /// The message without its metadata.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The message's id: the same on every attempt and every redelivery. Fluffle's publishers set a UUIDv7 unless the
    /// application sets an id. Message *i* of a batch `<id>` has the id `<id>/<i>`. `None` if the publisher set no id.
    pub fn message_id(&self) -> Option<&str> {
        let id = self.attempt.message_id()?;
        Some(self.item.as_ref().map_or(id, |item| item.id.get_or_init(|| item_id(id, item.index))))
    }

    /// The span that sent the message (W3C Trace Context), if the sender told it. For a message of a batch, the span
    /// that sent this message, or the one that sent the batch.
    ///
    /// Messages that a handler publishes carry the trace on without this: see
    /// [`trace::current`](crate::trace::current).
    ///
    /// ```
    /// use fluffle_amqp::{Delivery, trace};
    ///
    /// /// In a task of its own, the trace of the handler is not known. Here it is.
    /// fn in_the_background(order: &Delivery<String>, prepare: impl FnOnce() + Send + 'static) {
    ///     let trace = order.trace();
    ///     std::thread::spawn(move || match trace {
    ///         Some(trace) => trace::within(trace, prepare),
    ///         None => prepare(),
    ///     });
    /// }
    /// ```
    pub fn trace(&self) -> Option<TraceContext> {
        match (&self.item, self.attempt.contents()) {
            (Some(item), Some(contents)) => contents.trace(&self.attempt, item.index),
            _ => self.attempt.trace(),
        }
    }

    accessors!();

    /// Where the message is in its stream. `None` if it was not read from a stream, also after a retry through a retry
    /// queue.
    pub fn stream_position(&self) -> Option<StreamPosition> {
        let position = self.attempt.position.as_deref()?;
        Some(StreamPosition { is_item: self.item.is_some(), ..position.clone() })
    }

    /// What becomes of the message, as soon as that is known. The future may outlive the delivery.
    ///
    /// Await it in a separate task, as below. If the handler itself awaits it before it answers, it resolves only if
    /// the connection is lost or the handler exceeds its time limit, because nothing else settles an unanswered
    /// message. To stop work when the connection is lost, use [`unless_lost`](Self::unless_lost).
    ///
    /// ```
    /// use fluffle_amqp::{Delivery, Settled};
    ///
    /// fn follow(order: &Delivery<String>) {
    ///     let settled = order.settled();
    ///     actix::spawn(async move {
    ///         if settled.await == Settled::Lost {
    ///             eprintln!("the order may have been handled, and is delivered again");
    ///         }
    ///     });
    /// }
    /// ```
    pub fn settled(&self) -> impl Future<Output = Settled> + Send + 'static {
        let (attempt, item) = (Arc::clone(&self.attempt), self.item.as_ref().map(|item| item.index));
        async move {
            let settled = attempt.settled().await;
            match (item, attempt.contents()) {
                (Some(index), Some(contents)) => contents.settled(index, settled),
                _ => settled,
            }
        }
    }

    /// Runs `work`, but drops it if the channel or connection of this message is lost. The broker then delivers the
    /// message again, and two handlers should not work on it at the same time. Without this method, the handler
    /// finishes the work, and its ack counts as lost
    /// ([`ConsumerStats::work_done_ack_lost`](crate::ConsumerStats::work_done_ack_lost)).
    ///
    /// # Errors
    /// The error of `work`, or a failure that says that the channel was lost. The latter charges no attempt.
    pub fn unless_lost<O, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<O, E>>,
    ) -> impl Future<Output = Result<O, Failure>> {
        let settled = self.settled();
        // If the message is settled in another way, because its handler took too long, `work` goes on.
        let lost = async move {
            if settled.await != Settled::Lost {
                std::future::pending::<()>().await;
            }
        };
        async move {
            tokio::select! {
                done = work => done.map_err(Into::into),
                () = lost => Err(Failure::retry("the channel was lost: the broker delivers this message again")),
            }
        }
    }
}

impl<L, R> Delivery<OneOf<L>, R> {
    /// The delivery of a `T`.
    ///
    /// # Errors
    /// The unchanged delivery, if its message is not a `T`.
    pub fn of<T: 'static>(self) -> Result<Delivery<T, R>, Self> {
        let Self { message, attempt, item, reply } = self;
        match message.take() {
            Ok(message) => Ok(Delivery { message, attempt, item, reply }),
            Err(message) => Err(Self { message, attempt, item, reply }),
        }
    }
}

impl<T, R> Deref for Delivery<T, R> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

impl<T, R: 'static> Message for Delivery<T, R> {
    type Result = Result<R, Failure>;
}

impl<T: fmt::Debug, R> fmt::Debug for Delivery<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("message_id", &self.message_id())
            .field("attempt", &self.attempt())
            .field("queue", &self.queue())
            .finish_non_exhaustive()
    }
}
