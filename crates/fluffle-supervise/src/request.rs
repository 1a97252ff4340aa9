//! The futures of a sender, which waits for room and then for the reply.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use actix::{Actor, AsyncContext, Handler, Message};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    envelope::Envelope,
    mailbox::{Mailbox, NoRoom, Ticket, Waiting},
    send_error::SendError,
};

/// The future of [`SupervisedAddr::send`](crate::SupervisedAddr::send).
#[must_use = "dropping a request withdraws its message: await it, or use post"]
pub struct Request<A: Actor, M: Message> {
    entry: Entry<A>,
    /// `None` after the future has returned its result.
    reply: Option<oneshot::Receiver<M::Result>>,
    deadline: Deadline,
}

impl<A: Actor, M: Message> Request<A, M> {
    #[inline]
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, msg: M) -> Self
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Send + 'static,
        M::Result: Send,
    {
        let (sender, reply) = oneshot::channel();
        Self {
            entry: Entry::new(mailbox, Envelope::new(msg, Some(sender))),
            reply: Some(reply),
            deadline: Deadline::default(),
        }
    }

    /// Limits the wait for room and reply together to `limit` from now. At the limit, a message that the actor has not
    /// taken comes back as [`SendError::TimedOut`]; if the actor has taken it, only the reply is lost
    /// ([`TimedOutInHand`](SendError::TimedOutInHand)). Default: no limit.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Deadline::after(limit);
        self
    }
}

// Every pinned part is in a box of its own, so moving this is sound.
impl<A: Actor, M: Message> Unpin for Request<A, M> {}

impl<A: Actor, M: Message + 'static> Future for Request<A, M> {
    type Output = Result<M::Result, SendError<M>>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(reply) = &mut this.reply else {
            // Polled again after it had returned its result.
            return Poll::Pending;
        };
        let reply = match this.entry.poll(task) {
            Poll::Ready(true) => Pin::new(reply).poll(task).map(Some),
            Poll::Ready(false) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(reply) = reply {
            this.reply = None;
            return Poll::Ready(match reply {
                Some(Ok(reply)) => Ok(reply),
                // The reply channel is gone. A message that is still in the mailbox means that the mailbox closed;
                // otherwise the actor dropped the channel.
                None | Some(Err(_)) => Err(this.entry.withdraw().map_or(SendError::Crashed, SendError::Closed)),
            });
        }
        ready!(this.deadline.poll(task));
        this.reply = None;
        let back = this.entry.withdraw();
        Poll::Ready(Err(back.map_or(SendError::TimedOutInHand, SendError::TimedOut)))
    }
}

impl<A: Actor, M: Message> Drop for Request<A, M> {
    fn drop(&mut self) {
        if self.reply.is_some() {
            self.entry.take_back();
        }
    }
}

impl<A: Actor, M: Message> fmt::Debug for Request<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = std::any::type_name::<M>();
        f.debug_struct("Request").field("message", &message).finish_non_exhaustive()
    }
}

/// The future of [`SupervisedAddr::post`](crate::SupervisedAddr::post).
#[must_use = "dropping it while it waits for room takes the message back: await it"]
pub struct Posting<A: Actor, M: Message> {
    entry: Entry<A>,
    deadline: Deadline,
    message: PhantomData<fn() -> M>,
}

impl<A: Actor, M: Message> Posting<A, M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, msg: M) -> Self
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Send + 'static,
        M::Result: Send,
    {
        Self {
            entry: Entry::new(mailbox, Envelope::new(msg, None)),
            deadline: Deadline::default(),
            message: PhantomData,
        }
    }

    /// Limits the wait for room to `limit` from now. At the limit, the message comes back as [`SendError::TimedOut`].
    /// Default: no limit.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Deadline::after(limit);
        self
    }
}

// Every pinned part is in a box of its own, so moving this is sound.
impl<A: Actor, M: Message> Unpin for Posting<A, M> {}

impl<A: Actor, M: Message + 'static> Future for Posting<A, M> {
    type Output = Result<(), SendError<M>>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(accepted) = this.entry.poll(task) {
            let refused = if accepted { None } else { this.entry.withdraw() };
            return Poll::Ready(refused.map_or(Ok(()), |msg| Err(SendError::Closed(msg))));
        }
        ready!(this.deadline.poll(task));
        let back = this.entry.withdraw();
        Poll::Ready(back.map_or(Ok(()), |msg| Err(SendError::TimedOut(msg))))
    }
}

impl<A: Actor, M: Message> fmt::Debug for Posting<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = std::any::type_name::<M>();
        f.debug_struct("Posting").field("message", &message).finish_non_exhaustive()
    }
}

/// A message that waits for room in a mailbox, or is in it.
struct Entry<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    place: Place<A>,
}

enum Place<A: Actor> {
    /// Boxed, so that a request that finds room at once, as most do, stays small.
    Outside(Box<(Waiting<A>, Envelope<A>)>),
    Inside(Ticket),
    /// The mailbox has closed.
    Refused(Envelope<A>),
    /// The message was taken back.
    Empty,
}

impl<A: Actor> Entry<A> {
    /// Puts the message in at once if there is room.
    fn new(mailbox: Arc<Mailbox<A>>, envelope: Envelope<A>) -> Self {
        let place = match mailbox.offer(envelope) {
            Ok(ticket) => Place::Inside(ticket),
            Err((NoRoom::Full, envelope)) => Place::Outside(Box::new((Waiting::new(mailbox.clone()), envelope))),
            Err((NoRoom::Closed, envelope)) => Place::Refused(envelope),
        };
        Self { mailbox, place }
    }

    /// Waits until the message is in the mailbox (true) or was refused (false).
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<bool> {
        if let Place::Outside(outside) = &mut self.place {
            let given = ready!(outside.0.poll(task));
            if let Place::Outside(outside) = std::mem::replace(&mut self.place, Place::Empty) {
                let (_, envelope) = *outside;
                let filled = if given { self.mailbox.fill(envelope) } else { Err(envelope) };
                self.place = filled.map_or_else(Place::Refused, Place::Inside);
            }
        }
        Poll::Ready(matches!(self.place, Place::Inside(_)))
    }

    /// Takes the message back, unless the actor has taken it.
    fn take_back(&mut self) -> Option<Envelope<A>> {
        match std::mem::replace(&mut self.place, Place::Empty) {
            Place::Outside(outside) => Some(outside.1),
            Place::Refused(envelope) => Some(envelope),
            Place::Inside(ticket) => self.mailbox.take_back(ticket),
            Place::Empty => None,
        }
    }

    fn withdraw<M: Message + 'static>(&mut self) -> Option<M> {
        self.take_back().and_then(Envelope::open)
    }
}

/// A point in time, or none: then the wait has no limit.
#[derive(Default)]
struct Deadline {
    at: Option<Instant>,
    /// Made in the first poll, because a timer can only be made inside a runtime.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self {
            // If the sum overflows, there is no limit.
            at: Instant::now().checked_add(limit),
            sleep: None,
        }
    }

    fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(task)
    }
}
