//! The address of a supervised actor.

use std::{fmt, sync::Arc};

use actix::{Actor, AsyncContext, Handler, Message};

use crate::{
    envelope::Envelope,
    mailbox::{AnyMailbox, Mailbox, MailboxDepth, NoRoom},
    request::{Posting, Request},
    send_error::SendError,
};

/// The address of a supervised actor: stable across its restarts, cheap to clone, usable from any thread.
///
/// Messages are handled one after the other, in the order in which they found room. If the actor crashes, the waiting
/// messages are handled by its next incarnation; only the message being handled is lost, and its sender gets
/// [`SendError::Crashed`]. While the child is not running (starting, backing off), senders wait.
///
/// A bare actix address (`ctx.address()`) is valid for one incarnation only. Keep a `SupervisedAddr` instead.
///
/// ```
/// use std::time::Duration;
/// use actix::prelude::*;
/// use fluffle_supervise::{ActorSpec, SupervisorSpec};
///
/// struct Adder(u64);
///
/// impl Actor for Adder {
///     type Context = Context<Self>;
/// }
///
/// #[derive(Message)]
/// #[rtype(u64)]
/// struct Add(u64);
///
/// impl Handler<Add> for Adder {
///     type Result = u64;
///
///     fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
///         self.0 += n;
///         self.0
///     }
/// }
///
/// #[actix::main]
/// async fn main() {
///     let adder = ActorSpec::new("adder", || Adder(40));
///     let addr = adder.addr();
///     let app = SupervisorSpec::new("app").child(adder).start();
///
///     let sum = addr.send(Add(2)).within(Duration::from_secs(1)).await;
///     assert_eq!(sum.unwrap(), 42);
///
///     app.shutdown().await;
///     let given_back = addr.send(Add(1)).await.unwrap_err().into_message();
///     assert!(given_back.is_some());
/// }
/// ```
pub struct SupervisedAddr<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
}

impl<A: Actor> SupervisedAddr<A> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        Self { mailbox }
    }

    /// Sends a message and waits for the reply.
    ///
    /// If there is room in the mailbox, the message enters it at once, even before the future is first polled.
    /// Otherwise the future waits for room, first come, first served. It waits without limit for room and reply, unless
    /// [`within`](Request::within) sets one.
    ///
    /// # Cancellation
    /// Dropping the future before the actor took the message withdraws the message. After that, only the reply is
    /// dropped.
    ///
    /// # Errors
    /// [`SendError::Closed`], [`TimedOut`](SendError::TimedOut), [`TimedOutInHand`](SendError::TimedOutInHand) or
    /// [`Crashed`](SendError::Crashed).
    #[inline]
    pub fn send<M>(&self, msg: M) -> Request<A, M>
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Request::new(self.mailbox.clone(), msg)
    }

    /// Puts a message into the mailbox. Waits for room, but not until the message is handled: the reply is dropped, and
    /// a crash while the message is handled is not reported here. If the child is over for good before it handles the
    /// message, the message is dropped and counted in a warning.
    ///
    /// As with [`send`](Self::send), if there is room the message enters the mailbox at once, even before the future is
    /// first polled.
    ///
    /// # Cancellation
    /// Dropping the future while it waits for room takes the message back. After that, the message stays in the
    /// mailbox.
    ///
    /// # Errors
    /// [`SendError::Closed`] or [`TimedOut`](SendError::TimedOut).
    pub fn post<M>(&self, msg: M) -> Posting<A, M>
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Posting::new(self.mailbox.clone(), msg)
    }

    /// Like [`post`](Self::post), but fails if there is no room now.
    ///
    /// # Errors
    /// [`SendError::Closed`] or [`Full`](SendError::Full).
    pub fn try_post<M>(&self, msg: M) -> Result<(), SendError<M>>
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let Err((no_room, envelope)) = self.mailbox.offer(Envelope::new(msg, None)) else {
            return Ok(());
        };
        envelope.open().map_or(Ok(()), |msg| {
            Err(match no_room {
                NoRoom::Full => SendError::Full(msg),
                NoRoom::Closed => SendError::Closed(msg),
            })
        })
    }

    /// Whether the child is over for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// How many messages wait in the mailbox, and its capacity.
    #[must_use]
    pub fn depth(&self) -> MailboxDepth {
        self.mailbox.depth()
    }
}

impl<A: Actor> Clone for SupervisedAddr<A> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone() }
    }
}

impl<A: Actor> fmt::Debug for SupervisedAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisedAddr")
            .field("actor", &std::any::type_name::<A>())
            .field("mailbox", &self.depth())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Two addresses are equal if they belong to the same child.
impl<A: Actor> PartialEq for SupervisedAddr<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }
}

impl<A: Actor> Eq for SupervisedAddr<A> {}
