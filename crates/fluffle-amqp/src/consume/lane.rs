//! The way from a consumer to its handlers and back.
//!
//! Deliveries wait in one queue per consumer that all its handler instances draw from, each when it has room: uneven
//! jobs spread by themselves, and a crashed handler leaves the waiting ones untouched. Each carries a [`Ticket`], which
//! is answered exactly once whatever happens: answering consumes it, dropping it answers for it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use fluffle_wire::{DecodeError, Encoded};
use tokio::sync::mpsc;

use crate::{
    channel::Generation,
    consume::{failure::Failure, received::Received},
};

/// What became of one delivery at its handler.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Handled; the answer, if the handler gives one.
    Handled(Option<Encoded>),
    /// The handler said no.
    Failed(Failure),
    /// The handler panicked, or ended, after it had been given the message and before it answered.
    Crashed,
    /// The body is not what its labels or this consumer say it is.
    Undecodable(DecodeError),
    /// No handler had been given it.
    NotStarted,
}

/// An answered ticket on its way back to the consumer.
pub(crate) struct Completion {
    pub(crate) received: Arc<Received>,
    pub(crate) outcome: Outcome,
}

/// One delivery on its way to a handler.
pub(crate) struct Job {
    pub(crate) received: Arc<Received>,
    pub(crate) ticket: Ticket,
}

/// The duty to answer for one delivery. Answering twice does not compile; not answering is an answer too.
pub(crate) struct Ticket {
    received: Arc<Received>,
    unanswered: Outcome,
    answered: bool,
    completions: mpsc::UnboundedSender<Completion>,
}

impl Ticket {
    /// From here on a dropped ticket means that the handler crashed with the message in hand.
    pub(crate) fn start(&mut self) {
        self.unanswered = Outcome::Crashed;
    }

    /// Answers.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Outcome) {
        self.answered = true;
        // Without a listener the application is shutting down, and the broker will deliver it to somebody else.
        let _ = self.completions.send(Completion { received: Arc::clone(&self.received), outcome });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            let outcome = std::mem::replace(&mut self.unanswered, Outcome::NotStarted);
            self.send(outcome);
        }
    }
}

/// Shared by one consumer and its handlers; outlives every incarnation of both.
///
/// Neither direction needs a bound of its own: the broker's prefetch bounds how many deliveries are anywhere in here.
pub(crate) struct Lane {
    jobs: async_channel::Sender<Job>,
    queue: async_channel::Receiver<Job>,
    completions: mpsc::UnboundedSender<Completion>,
    answers: Mutex<Option<mpsc::UnboundedReceiver<Completion>>>,
    generation: AtomicU64,
    /// Deliveries of an older channel are nobody else's: they were acked on receipt.
    at_most_once: bool,
}

impl Lane {
    pub(crate) fn new(at_most_once: bool) -> Arc<Self> {
        let (jobs, queue) = async_channel::unbounded();
        let (completions, answers) = mpsc::unbounded_channel();
        let (answers, generation) = (Mutex::new(Some(answers)), AtomicU64::new(0));
        Arc::new(Self { jobs, queue, completions, answers, generation, at_most_once })
    }

    /// Starts a generation: what waits from older channels is the broker's again and will come back by itself, unless it
    /// was acked on receipt.
    pub(crate) fn begin(&self, generation: Generation) {
        self.generation.store(generation, Ordering::Release);
        if !self.at_most_once {
            self.clear();
        }
    }

    /// Whether this delivery is still ours to handle.
    pub(crate) fn is_ours(&self, received: &Received) -> bool {
        self.at_most_once || received.generation == self.generation.load(Ordering::Acquire)
    }

    /// Hands a delivery to whichever handler takes it first.
    pub(crate) fn push(&self, received: Arc<Received>) {
        let ticket = Ticket {
            received: Arc::clone(&received),
            unanswered: Outcome::NotStarted,
            answered: false,
            completions: self.completions.clone(),
        };
        // The lane holds a receiver itself, so the queue is never closed.
        let _ = self.jobs.try_send(Job { received, ticket });
    }

    /// Takes back what no handler has been given yet.
    pub(crate) fn clear(&self) {
        while self.queue.try_recv().is_ok() {}
    }

    /// The handlers' end.
    pub(crate) fn queue(&self) -> async_channel::Receiver<Job> {
        self.queue.clone()
    }

    /// The consumer's end of the way back; there is one, and it is lent to one consumer at a time.
    pub(crate) fn answers(self: &Arc<Self>) -> Option<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Answers { lane: Arc::clone(self), answers: Some(answers) })
    }

    /// Deliveries no handler has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// The receiving end of the completions, returned to its lane when dropped.
pub(crate) struct Answers {
    lane: Arc<Lane>,
    answers: Option<mpsc::UnboundedReceiver<Completion>>,
}

impl Answers {
    /// Waits for answers and takes up to `limit`. Cancellation safe.
    pub(crate) async fn take(&mut self, into: &mut Vec<Completion>, limit: usize) {
        match &mut self.answers {
            Some(answers) => {
                answers.recv_many(into, limit).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        *self.lane.answers.lock().unwrap_or_else(PoisonError::into_inner) = self.answers.take();
    }
}
