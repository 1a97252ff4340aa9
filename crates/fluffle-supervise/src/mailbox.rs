//! A child's mailbox. It is outside the actor, and so outlives each incarnation of it.

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
    /// Messages that wait.
    pub waiting: usize,
    /// Messages that fit.
    pub capacity: usize,
}

/// A bounded queue of envelopes with one reader at a time: the incarnation that last attached. A killed incarnation
/// whose thread is blocked therefore holds nothing that its successor needs.
///
/// One lock for each message in and one for each out: the semaphore is only for senders that find no room.
pub(crate) struct Mailbox<A: Actor> {
    queue: Mutex<Queue<A>>,
    /// Hands free places to waiting senders, first come, first served. Has permits only on their way to one.
    handover: Arc<Semaphore>,
}

struct Queue<A: Actor> {
    /// In the order of their tickets.
    envelopes: VecDeque<(Ticket, Envelope<A>)>,
    next_ticket: Ticket,
    capacity: usize,
    /// Places in use: by envelopes, and by senders that were given one and are about to fill it.
    taken: usize,
    /// Senders that wait for a place and were not given one.
    senders: usize,
    reader: Option<Token>,
    waker: Option<Waker>,
    closed: bool,
}

/// By which a sender finds its message again.
pub(crate) type Ticket = u64;

/// Why there is no room at once.
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

    /// Sets the capacity, at least 1, before the start. What is in already stays in.
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

    /// Puts an envelope into a place that was waited for; or hands it back if the mailbox has closed since.
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
        // Not under the lock: the reader may be on another thread, and would run into it.
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

    /// The next envelope, and whether there may be more now; if not, the reader is woken when there are. Pending for
    /// ever for a reader that another has replaced.
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

    /// Takes a message back out, if the actor has not taken it. From a closed mailbox too: it keeps what somebody waits
    /// for.
    pub(crate) fn take_back(&self, ticket: Ticket) -> Option<Envelope<A>> {
        let mut queue = self.queue();
        let at = queue.envelopes.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, envelope) = queue.envelopes.remove(at)?;
        self.free_place(queue);
        Some(envelope)
    }

    /// Gives a place up, to the sender that has waited longest if there is one.
    #[inline]
    fn free_place(&self, mut queue: MutexGuard<'_, Queue<A>>) {
        // Above the capacity, after it was made smaller: one less is taken.
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

    /// True when a place is the sender's, to be [filled](Mailbox::fill); false when the mailbox has closed.
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
        // If a place was on its way to this sender, the next one gets it now, or it comes back here.
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

/// What the tree needs of a mailbox without knowing whose it is.
pub(crate) trait AnyMailbox: Send + Sync {
    fn depth(&self) -> MailboxDepth;

    fn is_closed(&self) -> bool;

    /// Ends it: senders get their messages back. Returns how many messages were in it that nobody waits for.
    fn close(&self) -> usize;

    /// The reader may receive nothing more.
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
        // Without the lock, and when the messages are in their place again: this wakes the senders, who come for them.
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
