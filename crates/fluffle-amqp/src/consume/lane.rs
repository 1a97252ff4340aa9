//! The way from a consumer to its handlers and back.
//!
//! Deliveries wait in one queue per consumer that all its handler instances draw from, each when it has room: uneven
//! jobs spread by themselves, and a crashed handler leaves the waiting ones untouched. Each carries a [`Ticket`], which
//! is answered exactly once whatever happens: answering consumes it, dropping it answers for it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fluffle_wire::{DecodeError, Encoded};
use futures_util::{StreamExt, stream::LocalBoxStream};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use crate::{
    channel::Generation,
    consume::{failure::Failure, received::Received},
    flow::{budget::Budget, rate::RateLimit},
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
/// How many deliveries are anywhere in here the broker's prefetch bounds; how many bytes of them handlers have in hand, the
/// budget; how fast they get them, the rate limit. What may not be handed out yet waits here, at the front of the queue,
/// where it can be taken back.
pub(crate) struct Lane {
    waiting: Mutex<Waiting>,
    in_hand: Budget,
    /// Wakes handlers that wait: something came, or there is room again.
    changed: Notify,
    rate: Option<RateLimit>,
    completions: mpsc::UnboundedSender<Completion>,
    answers: Mutex<Option<mpsc::UnboundedReceiver<Completion>>>,
    generation: AtomicU64,
    /// Deliveries of an older channel are nobody else's: they were acked on receipt.
    at_most_once: bool,
}

struct Waiting {
    jobs: VecDeque<Job>,
    /// The rate limit holds the first one back.
    paced: bool,
}

/// What a handler that has room gets.
enum Next {
    Job(Job),
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing before something changes.
    Nothing,
}

/// The bytes of one delivery in a handler's hands.
pub(crate) struct Charge {
    lane: Arc<Lane>,
    bytes: AtomicU64,
}

impl Charge {
    /// It has unpacked to so many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.lane.in_hand.take(bytes);
    }

    /// It is settled.
    pub(crate) fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 && self.lane.in_hand.give_back(bytes) {
            self.lane.changed.notify_waiters();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

impl Lane {
    pub(crate) fn new(at_most_once: bool, bytes: u64, rate: Option<RateLimit>) -> Arc<Self> {
        let (completions, answers) = mpsc::unbounded_channel();
        let waiting = Waiting { jobs: VecDeque::new(), paced: false };
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            in_hand: Budget::new(bytes),
            changed: Notify::new(),
            rate,
            completions,
            answers: Mutex::new(Some(answers)),
            generation: AtomicU64::new(0),
            at_most_once,
        })
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
        self.waiting_jobs().jobs.push_back(Job { received, ticket });
        self.changed.notify_waiters();
    }

    /// Takes back what no handler has been given yet.
    pub(crate) fn clear(&self) {
        // Dropped without the lock: each answers for itself.
        let taken = std::mem::take(&mut self.waiting_jobs().jobs);
        drop(taken);
    }

    /// Takes this one back, if no handler has been given it yet.
    pub(crate) fn take_back(&self, generation: Generation, tag: u64) {
        let mut waiting = self.waiting_jobs();
        let is_it = |job: &Job| (job.received.generation, job.received.tag) == (generation, tag);
        let taken = waiting.jobs.iter().position(is_it).and_then(|place| waiting.jobs.remove(place));
        // Without the lock it answers for itself.
        drop(waiting);
        drop(taken);
    }

    /// The handlers' end: deliveries as they may be handed out, for ever. Each gets what the others do not.
    pub(crate) fn queue(self: &Arc<Self>) -> LocalBoxStream<'static, Job> {
        let each = |lane: Arc<Self>| async move { Some((lane.next().await, lane)) };
        futures_util::stream::unfold(Arc::clone(self), each).boxed_local()
    }

    /// Cancellation safe: a delivery is taken and returned in one go.
    async fn next(self: &Arc<Self>) -> Job {
        if let Next::Job(job) = self.take() {
            return job;
        }
        loop {
            // From here on nothing is missed: it is woken by what comes after it was made.
            let changed = self.changed.notified();
            match self.take() {
                Next::Job(job) => return job,
                Next::Nothing => changed.await,
                Next::NotBefore(again) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(again) => {}
                    }
                }
            }
        }
    }

    fn take(self: &Arc<Self>) -> Next {
        let mut waiting = self.waiting_jobs();
        let Some(first) = waiting.jobs.front() else { return Next::Nothing };
        let bytes = first.received.body.len() as u64;
        if !self.in_hand.fits(bytes) {
            return Next::Nothing;
        }
        if let Some(Err(again)) = self.rate.as_ref().map(RateLimit::try_take) {
            waiting.paced = true;
            return Next::NotBefore(again);
        }
        let Some(job) = waiting.jobs.pop_front() else { return Next::Nothing };
        self.in_hand.take(bytes);
        waiting.paced = false;
        drop(waiting);
        job.received.charge(Charge { lane: Arc::clone(self), bytes: AtomicU64::new(bytes) });
        Next::Job(job)
    }

    /// The consumer's end of the way back; there is one, and it is lent to one consumer at a time.
    pub(crate) fn answers(self: &Arc<Self>) -> Option<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Answers { lane: Arc::clone(self), answers: Some(answers) })
    }

    /// Most bytes that handlers may have in hand.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.in_hand.limit()
    }

    /// Deliveries no handler has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting_jobs().jobs.len()
    }

    /// Whether it is the rate limit they wait for.
    pub(crate) fn is_paced(&self) -> bool {
        self.waiting_jobs().paced
    }

    fn waiting_jobs(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::consume::received::tests::received;

    /// Bodies of four bytes each.
    fn filled(lane: &Arc<Lane>, count: usize) {
        for _ in 0..count {
            lane.push(Arc::new(received(1)));
        }
    }

    #[tokio::test]
    async fn past_the_byte_budget_nothing_is_handed_out_until_something_is_settled() {
        let lane = Lane::new(true, 8, None);
        filled(&lane, 3);
        let (mut one, mut other) = (lane.queue(), lane.queue());
        let first = one.next().await.unwrap();
        let _second = other.next().await.unwrap();
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        let third = tokio::spawn(async move { first.received.release() });
        let _job = one.next().await.unwrap();
        third.await.unwrap();
        assert_eq!(lane.waiting(), 0);
    }

    #[tokio::test]
    async fn what_a_body_unpacks_to_counts_and_is_given_back_once() {
        let lane = Lane::new(true, 100, None);
        filled(&lane, 3);
        let mut queue = lane.queue();
        let first = queue.next().await.unwrap();
        first.received.unpacked(200);
        assert!(queue.next().now_or_never().is_none());
        first.received.release();
        drop(first);
        let second = queue.next().await.unwrap();
        second.received.unpacked(4);
        drop(second);
        // Dropped by its handler, it is on its way back to the consumer.
        let mut back = Vec::new();
        lane.answers().unwrap().take(&mut back, 2).await;
        drop(back);
        let _third = queue.next().await.unwrap();
        assert!(!lane.in_hand.fits(97), "the third's four bytes, and no more than those, are in hand");
        assert!(lane.in_hand.fits(96));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_the_first_one_back_where_it_can_be_taken_back() {
        let lane = Lane::new(true, 100, Some(RateLimit::per_second(10, 1)));
        filled(&lane, 3);
        let mut queue = lane.queue();
        let start = Instant::now();
        let _first = queue.next().await.unwrap();
        let _second = queue.next().await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(100));
        assert!(queue.next().now_or_never().is_none() && lane.is_paced());
        lane.clear();
        assert_eq!(lane.waiting(), 0);
        assert!(queue.next().now_or_never().is_none());
    }
}
