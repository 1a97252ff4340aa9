//! The futures of a sender: waiting for room, then for the reply.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use actix::{Actor, AsyncContext, Handler, Message};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    addr::enclose,
    envelope::{Envelope, Parcel},
    mailbox::{Mailbox, NoRoom},
    send_error::SendError,
};

/// The future of [`SupervisedAddr::send`](crate::SupervisedAddr::send).
#[must_use = "dropping a request withdraws its message: await it, or use post"]
pub struct Request<A: Actor, M: Message> {
    mailbox: Arc<Mailbox<A>>,
    stage: Stage<M>,
    deadline: Deadline,
}

enum Stage<M: Message> {
    Room(Room<M>),
    Reply { parcel: Arc<Parcel<M>>, reply: oneshot::Receiver<M::Result> },
    Closed(Option<M>),
    Done,
}

impl<M: Message> Stage<M> {
    /// Puts the message into room reserved before.
    fn enclose<A>(mailbox: &Mailbox<A>, msg: M) -> Self
    where
        A: Actor + Handler<M>,
        A::Context: AsyncContext<A>,
        M: Send + 'static,
        M::Result: Send,
    {
        let (sender, reply) = oneshot::channel();
        let parcel = Parcel::new(msg, Some(sender));
        if mailbox.push(Envelope::new(parcel.clone())) {
            Self::Reply { parcel, reply }
        } else {
            Self::Closed(parcel.take_back())
        }
    }
}

impl<A: Actor, M: Message> Request<A, M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, msg: M) -> Self
    where
        A: Handler<M>,
        A::Context: AsyncContext<A>,
        M: Send + 'static,
        M::Result: Send,
    {
        let stage = match mailbox.try_reserve() {
            Ok(()) => Stage::enclose(&mailbox, msg),
            Err(NoRoom::Full) => Stage::Room(Room::new(msg)),
            Err(NoRoom::Closed) => Stage::Closed(Some(msg)),
        };
        Self { mailbox, stage, deadline: Deadline::default() }
    }

    /// Waits at most this long from now, for room and reply together. Then a message not yet taken comes back as
    /// [`SendError::TimedOut`]; of one in the actor's hands only the reply is lost
    /// ([`TimedOutInHand`](SendError::TimedOutInHand)). Default: no limit.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Deadline::after(limit);
        self
    }

    /// Takes the message back if the actor has not taken it.
    fn take_back(&mut self) -> Option<M> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Room(room) => room.msg,
            Stage::Reply { parcel, .. } => {
                let msg = parcel.take_back()?;
                self.mailbox.message_withdrawn();
                Some(msg)
            }
            Stage::Closed(msg) => msg,
            Stage::Done => None,
        }
    }
}

// Nothing in here is pinned but what is boxed.
impl<A: Actor, M: Message> Unpin for Request<A, M> {}

impl<A, M> Future for Request<A, M>
where
    A: Actor + Handler<M>,
    A::Context: AsyncContext<A>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Output = Result<M::Result, SendError<M>>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Room(room) => match room.poll(&this.mailbox, task) {
                    Poll::Ready(Ok(msg)) => {
                        this.stage = Stage::enclose(&this.mailbox, msg);
                        continue;
                    }
                    Poll::Ready(Err(msg)) => {
                        this.stage = Stage::Closed(msg);
                        continue;
                    }
                    Poll::Pending => {}
                },
                Stage::Reply { parcel, reply } => match Pin::new(reply).poll(task) {
                    Poll::Ready(Ok(reply)) => {
                        this.stage = Stage::Done;
                        return Poll::Ready(Ok(reply));
                    }
                    // The reply's other end is gone: was it dropped with the envelope, or by the actor?
                    Poll::Ready(Err(_)) => {
                        let closed = parcel.take_back();
                        this.stage = Stage::Done;
                        return Poll::Ready(Err(closed.map_or(SendError::Crashed, SendError::Closed)));
                    }
                    Poll::Pending => {}
                },
                Stage::Closed(msg) => {
                    let error = msg.take().map_or(SendError::Crashed, SendError::Closed);
                    this.stage = Stage::Done;
                    return Poll::Ready(Err(error));
                }
                // Polled again after it was ready.
                Stage::Done => return Poll::Pending,
            }
            ready!(this.deadline.poll(task));
            let back = this.take_back();
            return Poll::Ready(Err(back.map_or(SendError::TimedOutInHand, SendError::TimedOut)));
        }
    }
}

impl<A: Actor, M: Message> Drop for Request<A, M> {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

impl<A: Actor, M: Message> fmt::Debug for Request<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("message", &std::any::type_name::<M>()).finish_non_exhaustive()
    }
}

/// The future of [`SupervisedAddr::post`](crate::SupervisedAddr::post).
#[must_use = "dropping it before it is ready leaves nothing in the mailbox: await it"]
pub struct Posting<A: Actor, M> {
    mailbox: Arc<Mailbox<A>>,
    room: Room<M>,
    deadline: Deadline,
}

impl<A: Actor, M: Message> Posting<A, M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, msg: M) -> Self {
        Self { mailbox, room: Room::new(msg), deadline: Deadline::default() }
    }

    /// Waits at most this long from now for room; then the message comes back as [`SendError::TimedOut`]. Default: no
    /// limit.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Deadline::after(limit);
        self
    }
}

// Nothing in here is pinned but what is boxed.
impl<A: Actor, M> Unpin for Posting<A, M> {}

impl<A, M> Future for Posting<A, M>
where
    A: Actor + Handler<M>,
    A::Context: AsyncContext<A>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Output = Result<(), SendError<M>>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.room.msg.is_none() {
            // Polled again after it was ready.
            return Poll::Pending;
        }
        match this.room.poll(&this.mailbox, task) {
            Poll::Ready(Ok(msg)) => Poll::Ready(enclose(&this.mailbox, msg)),
            Poll::Ready(Err(Some(msg))) => Poll::Ready(Err(SendError::Closed(msg))),
            Poll::Ready(Err(None)) => Poll::Pending,
            Poll::Pending => {
                ready!(this.deadline.poll(task));
                match this.room.msg.take() {
                    Some(msg) => Poll::Ready(Err(SendError::TimedOut(msg))),
                    None => Poll::Pending,
                }
            }
        }
    }
}

impl<A: Actor, M> fmt::Debug for Posting<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posting").field("message", &std::any::type_name::<M>()).finish_non_exhaustive()
    }
}

/// A message that wants room in a mailbox.
struct Room<M> {
    msg: Option<M>,
    /// Made only when there was no room at once.
    permit: Option<Pin<Box<Permit>>>,
}

type Permit = dyn Future<Output = Option<OwnedSemaphorePermit>> + Send;

impl<M> Room<M> {
    fn new(msg: M) -> Self {
        Self { msg: Some(msg), permit: None }
    }

    /// The message, with room reserved for it; or the message back, from a closed mailbox.
    fn poll<A: Actor>(&mut self, mailbox: &Mailbox<A>, task: &mut Task<'_>) -> Poll<Result<M, Option<M>>> {
        let reserved = match &mut self.permit {
            None => match mailbox.try_reserve() {
                Ok(()) => true,
                Err(NoRoom::Closed) => false,
                Err(NoRoom::Full) => {
                    let permit = self.permit.insert(Box::pin(mailbox.reserve()));
                    ready!(permit.as_mut().poll(task)).map(OwnedSemaphorePermit::forget).is_some()
                }
            },
            Some(permit) => ready!(permit.as_mut().poll(task)).map(OwnedSemaphorePermit::forget).is_some(),
        };
        Poll::Ready(match self.msg.take() {
            Some(msg) if reserved => Ok(msg),
            msg => Err(msg),
        })
    }
}

/// A point in time, or never.
#[derive(Default)]
struct Deadline {
    at: Option<Instant>,
    /// Made in the first poll: a timer can only be made inside a runtime.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self {
            // A time too far away to be told is never.
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
