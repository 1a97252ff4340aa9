//! A child's mailbox. It is outside the actor and therefore outlives each incarnation.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use actix::Actor;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::{control::Token, envelope::Envelope};

/// How full a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxDepth {
    /// How many messages wait.
    pub waiting: usize,
    /// How many messages fit.
    pub capacity: usize,
}

/// A bounded queue of envelopes with one reader at a time: the incarnation that attached last. A killed incarnation
/// whose thread is blocked therefore holds nothing that its successor needs.
///
/// Each message takes the lock once on the way in and once on the way out. The semaphore is only for senders that find
/// no room.
pub(crate) struct Mailbox<A: Actor> {
    queue: Mutex<Queue<A>>,
    /// Passes free places to waiting senders, first come, first served. It holds a permit only while one is being
    /// passed to a sender.
    handover: Arc<Semaphore>,
}

struct Queue<A: Actor> {
    /// In the order of their tickets.
    envelopes: VecDeque<(Ticket, Envelope<A>)>,
    next_ticket: Ticket,
    capacity: usize,
    /// Places in use: by envelopes, and by senders that were given one and are about to fill it.
    taken: usize,
    /// Senders that wait for a place and have not been given one.
    senders: usize,
    reader: Option<Token>,
    waker: Option<Waker>,
    closed: bool,
}

/// Identifies a message in the queue, so that its sender can take it back.
pub(crate) type Ticket = u64;

/// Why a message could not enter at once.
#[derive(Debug)]
pub(crate) enum NoRoom {
    Full,
    Closed,
}

impl<A: Actor> Mailbox<A> {
    pub(crate) const DEFAULT_CAPACITY: usize = 64;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                envelopes: VecDeque::new(),
                next_ticket: 0,
                capacity: Self::DEFAULT_CAPACITY,
                taken: 0,
                senders: 0,
                reader: None,
                waker: None,
                closed: false,
            }),
            handover: Arc::new(Semaphore::new(0)),
        })
    }

    #[inline]
    fn queue(&self) -> MutexGuard<'_, Queue<A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the capacity, at least 1, before the start. Messages already in the mailbox stay.
    pub(crate) fn resize(&self, capacity: usize) {
        let mut queue = self.queue();
        queue.capacity = capacity.max(1);
        let handed = queue.senders.min(queue.capacity.saturating_sub(queue.taken));
        queue.senders -= handed;
        queue.taken += handed;
        drop(queue);
        self.handover.add_permits(handed);
    }

    /// Puts an envelope in if there is room.
    #[inline]
    pub(crate) fn offer(&self, envelope: Envelope<A>) -> Result<Ticket, (NoRoom, Envelope<A>)> {
        let mut queue = self.queue();
        if queue.closed {
            return Err((NoRoom::Closed, envelope));
        }
        if queue.taken >= queue.capacity {
            return Err((NoRoom::Full, envelope));
        }
        queue.taken += 1;
        Ok(Self::put(queue, envelope))
    }

    /// Puts an envelope into the place that [`Waiting`] was given. If the mailbox has closed since, hands it back.
    pub(crate) fn fill(&self, envelope: Envelope<A>) -> Result<Ticket, Envelope<A>> {
        let queue = self.queue();
        if queue.closed {
            return Err(envelope);
        }
        Ok(Self::put(queue, envelope))
    }

    #[inline]
    fn put(mut queue: MutexGuard<'_, Queue<A>>, envelope: Envelope<A>) -> Ticket {
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.envelopes.push_back((ticket, envelope));
        let waker = queue.waker.take();
        // Woken after the lock is released, because the reader may run at once on another thread and need the lock.
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        ticket
    }

    /// Makes `reader` the only one to receive from here.
    pub(crate) fn attach(&self, reader: Token) {
        let mut queue = self.queue();
        queue.reader = Some(reader);
        queue.waker = None;
    }

    /// The next envelope, and whether there are more now. If there are none, the reader is woken when one arrives.
    /// Stays pending for ever if another reader has replaced `reader`.
    #[inline]
    pub(crate) fn poll_next(&self, reader: Token, task: &Context<'_>) -> Poll<(Envelope<A>, bool)> {
        let mut queue = self.queue();
        if queue.reader != Some(reader) {
            return Poll::Pending;
        }
        let next = queue.envelopes.pop_front();
        let more = !queue.envelopes.is_empty();
        if !more {
            queue.waker = Some(task.waker().clone());
        }
        match next {
            Some((_, envelope)) => {
                self.free_place(queue);
                Poll::Ready((envelope, more))
            }
            None => Poll::Pending,
        }
    }

    /// Takes a message back out, unless the actor has taken it. Works on a closed mailbox too, which keeps the messages
    /// whose senders wait for a reply.
    pub(crate) fn take_back(&self, ticket: Ticket) -> Option<Envelope<A>> {
        let mut queue = self.queue();
        let at = queue.envelopes.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, envelope) = queue.envelopes.remove(at)?;
        self.free_place(queue);
        Some(envelope)
    }

    /// Frees a place: passes it to the sender that has waited longest, if there is one.
    #[inline]
    fn free_place(&self, mut queue: MutexGuard<'_, Queue<A>>) {
        // If the mailbox holds more than its capacity because it was made smaller, the place is not passed on.
        if queue.senders == 0 || queue.taken > queue.capacity {
            queue.taken -= 1;
            return;
        }
        queue.senders -= 1;
        drop(queue);
        self.handover.add_permits(1);
    }
}

/// A sender's wait for a place, first come, first served.
pub(crate) struct Waiting<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    /// `None` when the wait is over.
    permit: Option<Pin<Box<Permit>>>,
}

type Permit = dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send;

impl<A: Actor> Waiting<A> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        let permit = Box::pin(mailbox.handover.clone().acquire_owned());
        let mut queue = mailbox.queue();
        queue.senders += 1;
        if queue.taken < queue.capacity {
            // A place has become free since this sender found none.
            queue.taken += 1;
            mailbox.free_place(queue);
        } else {
            drop(queue);
        }
        Self { mailbox, permit: Some(permit) }
    }

    /// True when the sender has a place, which it must [fill](Mailbox::fill). False when the mailbox has closed.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<bool> {
        let Some(permit) = &mut self.permit else {
            return Poll::Ready(false);
        };
        let permit = ready!(permit.as_mut().poll(task));
        self.permit = None;
        Poll::Ready(permit.map(OwnedSemaphorePermit::forget).is_ok())
    }
}

impl<A: Actor> Drop for Waiting<A> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        // If a place was being passed to this sender, dropping the permit gives it to the next sender, or back to the
        // semaphore.
        drop(permit);
        let mut queue = self.mailbox.queue();
        match self.mailbox.handover.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.mailbox.free_place(queue);
            }
            Err(_) => queue.senders = queue.senders.saturating_sub(1),
        }
    }
}

/// The part of a mailbox that does not depend on the actor's type, for the tree.
pub(crate) trait AnyMailbox: Send + Sync {
    fn depth(&self) -> MailboxDepth;

    fn is_closed(&self) -> bool;

    /// Closes the mailbox: senders that wait for a reply get their messages back. Returns how many posted messages, for
    /// which no sender waits, were dropped.
    fn close(&self) -> usize;

    /// From now on `reader` receives nothing more.
    fn detach(&self, reader: Token);
}

impl<A: Actor> AnyMailbox for Mailbox<A> {
    fn depth(&self) -> MailboxDepth {
        let queue = self.queue();
        MailboxDepth { waiting: queue.envelopes.len(), capacity: queue.capacity }
    }

    fn is_closed(&self) -> bool {
        self.queue().closed
    }

    fn close(&self) -> usize {
        let mut queue = self.queue();
        queue.closed = true;
        queue.reader = None;
        queue.waker = None;
        let mut replies = Vec::new();
        let (kept, lost) = std::mem::take(&mut queue.envelopes)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, envelope)| envelope.wants_reply());
        queue.envelopes = kept;
        replies.extend(queue.envelopes.iter_mut().map(|(_, envelope)| envelope.take_reply()));
        drop(queue);
        self.handover.close();
        // Dropped without the lock and after the envelopes are back in the queue, because this wakes the senders, which
        // take their messages from it.
        drop(replies);
        lost.len()
    }

    fn detach(&self, reader: Token) {
        let mut queue = self.queue();
        if queue.reader == Some(reader) {
            queue.reader = None;
            queue.waker = None;
        }
    }
}
