//! What a handler is given.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use actix::Message;

use crate::{
    base::failure::Failure,
    consume::{
        attempt::attempt::Attempt,
        message::{accessors::accessors, item::item_id, settled::Settled},
    },
};

/// One message, decoded, with what came with it. Dereferences to the message.
///
/// An actor handles it with a plain actix [`Handler`](actix::Handler) whose result says what becomes of the message:
/// `Ok` acknowledges it (and answers, if the sender asked for an answer of type `R`), `Err` retries or dead-letters it,
/// see [`Failure`]. (An answer cannot be asked for by a batch.) The result's type is the concurrency knob:
///
/// | `type Result =` | the next message is handed over |
/// |---|---|
/// | `Result<R, Failure>` | when this one is done: one at a time, in order |
/// | `AtomicResponse<Self, Result<R, Failure>>` | when the future is done: one at a time, in order |
/// | `ResponseFuture<Result<R, Failure>>` | at once: up to the consumer's `concurrency` at a time, started in order |
/// | `ResponseActFuture<Self, Result<R, Failure>>` | at once, like the above, with `&mut Self` between polls |
///
/// The messages of a batch are handed over one after the other, each with a result of its own; a
/// [`DeliveryBatch`](crate::DeliveryBatch) has them all at once.
///
/// A panic counts as a failed attempt of the message in hand and of what lived in the actor's context; a
/// `ResponseFuture` begun beside it finishes, and what only waited is untouched.
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

/// Its place in the batch it came in.
struct Item {
    index: usize,
    /// Made when asked for.
    id: OnceLock<String>,
}

impl<T, R> Delivery<T, R> {
    pub(crate) fn new(message: T, attempt: Arc<Attempt>) -> Self {
        Self { message, attempt, item: None, reply: PhantomData }
    }

    pub(crate) fn item(message: T, attempt: Arc<Attempt>, index: usize) -> Self {
        Self { message, attempt, item: Some(Item { index, id: OnceLock::new() }), reply: PhantomData }
    }

    /// The message alone.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The message's id (a UUIDv7 when Fluffle published it): the same on every attempt and every redelivery. Message
    /// *i* of a batch `<id>` has the id `<id>/<i>`.
    pub fn message_id(&self) -> Option<&str> {
        let id = self.attempt.message_id()?;
        Some(self.item.as_ref().map_or(id, |item| item.id.get_or_init(|| item_id(id, item.index))))
    }

    accessors!();

    /// What becomes of it, as soon as that is known; the future may outlive the delivery.
    ///
    /// A handler that waits for it before it answers learns of one thing only, the loss of its connection: see
    /// [`unless_lost`](Self::unless_lost). A task of its own may wait for all of it.
    ///
    /// ```
    /// use fluffle_amqp::{Delivery, Settled};
    ///
    /// fn follow(order: &Delivery<String>) {
    ///     let settled = order.settled();
    ///     actix::spawn(async move {
    ///         if settled.await == Settled::Lost {
    ///             eprintln!("done, perhaps; and it will come again");
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

    /// Runs `work`, but drops it when the connection this message came on is lost: the broker delivers the message
    /// again then, and whoever gets it should not find half of the work going on here. Without it the work is finished,
    /// its ack counted as lost ([`ConsumerStats::work_done_ack_lost`](crate::ConsumerStats::work_done_ack_lost)).
    ///
    /// # Errors
    /// What `work` says, or a failure that says that the connection was lost; it charges no attempt.
    pub fn unless_lost<O, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<O, E>>,
    ) -> impl Future<Output = Result<O, Failure>> {
        let settled = self.settled();
        // Settled in any other way, because its handler took too long, it is not this future's business.
        let lost = async move {
            if settled.await != Settled::Lost {
                std::future::pending::<()>().await;
            }
        };
        async move {
            tokio::select! {
                done = work => done.map_err(Into::into),
                () = lost => Err(Failure::retry("the connection was lost: the broker delivers this message again")),
            }
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
