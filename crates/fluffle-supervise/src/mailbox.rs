//! A child's mailbox. It is outside the actor, and so outlives each incarnation of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use actix::Actor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

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
pub(crate) struct Mailbox<A: Actor> {
    queue: Mutex<Queue<A>>,
    /// One permit for each message that still fits. Whoever takes a message out, the actor or a sender that takes it
    /// back, returns its permit.
    room: Arc<Semaphore>,
    capacity: AtomicUsize,
}

struct Queue<A: Actor> {
    envelopes: VecDeque<Envelope<A>>,
    /// Envelopes in the queue whose message was taken back. Negative for the moment between the reader's passing one
    /// and the sender's counting it.
    withdrawn: isize,
    reader: Option<Token>,
    waker: Option<Waker>,
    closed: bool,
}

/// Why there is no room at once.
#[derive(Debug)]
pub(crate) enum NoRoom {
    Full,
    Closed,
}

impl<A: Actor> Mailbox<A> {
    pub(crate) const DEFAULT_CAPACITY: usize = 64;

    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                envelopes: VecDeque::new(),
                withdrawn: 0,
                reader: None,
                waker: None,
                closed: false,
            }),
            room: Arc::new(Semaphore::new(Self::DEFAULT_CAPACITY)),
            capacity: AtomicUsize::new(Self::DEFAULT_CAPACITY),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the capacity, before the start. Clamped to 1 ..= what a semaphore holds.
    pub(crate) fn resize(&self, capacity: usize) {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        let before = self.capacity.swap(capacity, Ordering::Relaxed);
        if capacity > before {
            self.room.add_permits(capacity - before);
        } else {
            self.room.forget_permits(before - capacity);
        }
    }

    /// Takes room for one message, if there is some now.
    pub(crate) fn try_reserve(&self) -> Result<(), NoRoom> {
        match self.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(NoRoom::Full),
            Err(TryAcquireError::Closed) => Err(NoRoom::Closed),
        }
    }

    /// Waits for room for one message, first come, first served. `None` when the mailbox has closed.
    pub(crate) fn reserve(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static {
        let room = self.room.clone();
        async move { room.acquire_owned().await.ok() }
    }

    /// Puts an envelope into room reserved before. A closed mailbox drops it, which leaves the message in the parcel.
    pub(crate) fn push(&self, envelope: Envelope<A>) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return false;
        }
        queue.envelopes.push_back(envelope);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Makes `reader` the only one to receive from here.
    pub(crate) fn attach(&self, reader: Token) {
        self.queue().reader = Some(reader);
    }

    /// The next envelope. Pending for ever for a reader that another has replaced.
    pub(crate) fn poll_next(&self, reader: Token, cx: &Context<'_>) -> Poll<Envelope<A>> {
        let mut queue = self.queue();
        if queue.reader != Some(reader) {
            return Poll::Pending;
        }
        match queue.envelopes.pop_front() {
            Some(envelope) => Poll::Ready(envelope),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// A message is out of the queue: its room is free. The mailbox's capacity may have become smaller meanwhile, but
    /// only before the start, when nothing takes messages out.
    pub(crate) fn release(&self) {
        self.room.add_permits(1);
    }

    /// The reader came upon an envelope whose message had been taken back.
    pub(crate) fn passed_withdrawn(&self) {
        self.queue().withdrawn -= 1;
    }

    /// A sender took its message back: frees the room, and sweeps the empty envelopes once they are the greater part,
    /// so that their number stays below the capacity and sweeping costs O(1) for each.
    pub(crate) fn message_withdrawn(&self) {
        let mut queue = self.queue();
        queue.withdrawn += 1;
        let mut swept = VecDeque::new();
        if queue.withdrawn > 0 && queue.withdrawn.unsigned_abs() * 2 > queue.envelopes.len() {
            (swept, queue.envelopes) = queue.envelopes.drain(..).partition(Envelope::is_taken);
            queue.withdrawn -= swept.len().cast_signed();
        }
        drop(queue);
        drop(swept);
        self.release();
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
        let waiting = queue.envelopes.len().saturating_add_signed(-queue.withdrawn);
        MailboxDepth { waiting, capacity: self.capacity.load(Ordering::Relaxed) }
    }

    fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    fn close(&self) -> usize {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waker = None;
        let waiting = std::mem::take(&mut queue.envelopes);
        drop(queue);
        self.room.close();
        waiting.into_iter().filter(Envelope::abandon).count()
    }

    fn detach(&self, reader: Token) {
        let mut queue = self.queue();
        if queue.reader == Some(reader) {
            queue.reader = None;
            queue.waker = None;
        }
    }
}
