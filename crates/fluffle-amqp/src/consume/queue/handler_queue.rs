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
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fluffle_wire::{DecodeError, Encoded};
use futures_util::{StreamExt, stream::LocalBoxStream};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::{
            crash::Crash,
            envelope::{Item, ItemOutcomes, Opened},
        },
        message::received::Received,
        queue::by_key::{self, Order},
    },
    flow::{budget::Budget, rate::RateLimit},
    link::channel::Generation,
};

/// What became of one delivery at its handler.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Handled; the answer, if the handler gives one.
    Handled(Option<Encoded>),
    /// The handler said no.
    Failed(Failure),
    /// The handler panicked, or ended, after it had been given the message and before it answered.
    Crashed(Crash),
    /// The body is not what its labels or this consumer say it is.
    Undecodable(DecodeError),
    /// No handler had been given it.
    NotStarted,
    /// A request that nobody waited for any more when its turn came: no handler was given it.
    Expired,
    /// It was a batch, and each of its items has a result.
    Items(ItemOutcomes),
    /// One item of a batch answered after it had been given up; whether it was handled.
    LateItem(usize, bool),
}

impl Outcome {
    /// How many messages had their handler crash.
    pub(crate) fn crashes(&self) -> usize {
        match self {
            Outcome::Crashed(_) => 1,
            Outcome::Items(items) => {
                items.failed.iter().filter(|(_, why)| matches!(**why, Outcome::Crashed(_))).count()
            }
            _ => 0,
        }
    }
}

/// An answered ticket on its way back to the consumer.
pub(crate) struct Completion {
    pub(crate) received: Arc<Received>,
    pub(crate) outcome: Outcome,
}

/// One delivery on its way to a handler.
pub(crate) struct Job {
    pub(crate) received: Arc<Received>,
    pub(crate) work: Work,
}

impl Job {
    /// Handlers have part of it.
    fn is_begun(&self) -> bool {
        match self.work {
            Work::Whole(_) => false,
            Work::Rest(_) => true,
            Work::Item(_) => self.received.started.get().is_some(),
        }
    }
}

pub(crate) enum Work {
    /// All of it.
    Whole(Ticket),
    /// The items of a batch that the last handler, which is gone, did not come to.
    Rest(Opened),
    /// One item of a batch, where order is kept by key.
    Item(Item),
}

/// The duty to answer for one delivery. Answering twice does not compile; not answering is an answer too.
pub(crate) struct Ticket {
    received: Arc<Received>,
    started: bool,
    answered: bool,
    completions: mpsc::UnboundedSender<Completion>,
}

impl Ticket {
    /// From here on a dropped ticket means that the handler crashed with the message in hand.
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// Answers.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Outcome) {
        self.answered = true;
        // After a failure the next attempt may keep the key: the consumer decides.
        if !matches!(outcome, Outcome::Failed(_) | Outcome::Crashed(_)) {
            self.received.free_key();
        }
        // Without a listener the application is shutting down, and the broker will deliver it to somebody else.
        let _ = self.completions.send(Completion { received: Arc::clone(&self.received), outcome });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.send(if self.started { Outcome::Crashed(Crash::of_the_actor()) } else { Outcome::NotStarted });
        }
    }
}

/// Shared by one consumer and its handlers; outlives every incarnation of both.
///
/// How many deliveries are anywhere in here the broker's prefetch bounds; how many bytes of them handlers have in hand, the
/// budget; how fast they get them, the rate limit. What may not be handed out yet waits here, at the front of the queue,
/// where it can be taken back.
pub(crate) struct HandlerQueue {
    waiting: Mutex<Waiting>,
    /// What keeps order by key, where that is asked for.
    pub(crate) order: Option<Order>,
    in_hand: Budget,
    /// Wakes handlers that wait: something came, or there is room again.
    pub(crate) changed: Notify,
    /// Something has been pushed since the last [announcement](Self::announce).
    unannounced: AtomicBool,
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
pub(crate) enum Next {
    Job(Job),
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing before something changes.
    Nothing,
}

/// The bytes of one delivery in a handler's hands.
pub(crate) struct Charge {
    handler_queue: Arc<HandlerQueue>,
    bytes: AtomicU64,
}

impl Charge {
    /// It has unpacked to so many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.handler_queue.in_hand.take(bytes);
    }

    /// It is settled.
    pub(crate) fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 && self.handler_queue.in_hand.give_back(bytes) {
            self.handler_queue.changed.notify_waiters();
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

impl HandlerQueue {
    pub(crate) fn new(at_most_once: bool, bytes: u64, rate: Option<RateLimit>, order: Option<Order>) -> Arc<Self> {
        let (completions, answers) = mpsc::unbounded_channel();
        let waiting = Waiting { jobs: VecDeque::new(), paced: false };
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            order,
            in_hand: Budget::new(bytes),
            changed: Notify::new(),
            unannounced: AtomicBool::new(false),
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
            let taken = std::mem::take(&mut self.waiting_jobs().jobs);
            // Without the lock: each answers for itself.
            drop(taken);
            self.order.iter().for_each(|order| order.take_back(|_| true));
        }
    }

    /// Whether this delivery is still ours to handle.
    pub(crate) fn is_ours(&self, received: &Received) -> bool {
        self.at_most_once || received.generation == self.generation.load(Ordering::Acquire)
    }

    /// Hands a delivery to whichever handler takes it first; before all others, if its key has been waiting for it. Handlers that
    /// wait hear of it when it is [announced](Self::announce): of many at once.
    pub(crate) fn push(&self, received: Arc<Received>) {
        let ticket = Ticket {
            received: Arc::clone(&received),
            started: false,
            answered: false,
            completions: self.completions.clone(),
        };
        let holds_key = received.hold.get().is_some();
        let job = Job { received, work: Work::Whole(ticket) };
        if holds_key {
            self.waiting_jobs().jobs.push_front(job);
        } else {
            self.waiting_jobs().jobs.push_back(job);
        }
        self.unannounced.store(true, Ordering::Release);
    }

    /// Wakes handlers for what has been pushed.
    pub(crate) fn announce(&self) {
        if self.unannounced.swap(false, Ordering::AcqRel) {
            self.changed.notify_waiters();
        }
    }

    /// What a handler left of a batch is the next one's, before anything else.
    pub(crate) fn go_on(&self, rest: Opened) {
        let received = Arc::clone(&rest.envelope.received);
        self.waiting_jobs().jobs.push_front(Job { received, work: Work::Rest(rest) });
        self.changed.notify_waiters();
    }

    /// Answers for an item that was given up before.
    pub(crate) fn late(&self, received: &Arc<Received>, index: usize, handled: bool) {
        let outcome = Outcome::LateItem(index, handled);
        // Without a listener nobody counts.
        let _ = self.completions.send(Completion { received: Arc::clone(received), outcome });
    }

    /// Takes back what no handler has begun.
    pub(crate) fn clear(&self) {
        let mut waiting = self.waiting_jobs();
        let (begun, taken) = waiting.jobs.drain(..).partition(Job::is_begun);
        waiting.jobs = begun;
        // Without the lock: each answers for itself.
        drop(waiting);
        drop::<VecDeque<Job>>(taken);
        self.order.iter().for_each(|order| order.clear(|job| !job.is_begun()));
    }

    /// Takes this one back, if no handler has been given it yet.
    pub(crate) fn take_back(&self, generation: Generation, tag: u64) {
        let is_it = |job: &Job| (job.received.generation, job.received.tag) == (generation, tag) && !job.is_begun();
        let mut waiting = self.waiting_jobs();
        let taken = waiting.jobs.iter().position(is_it).and_then(|place| waiting.jobs.remove(place));
        // Without the lock it answers for itself.
        drop(waiting);
        drop(taken);
        self.order.iter().for_each(|order| order.take_back(is_it));
    }

    /// A handler instance's end: deliveries as they may be handed out, for ever. Each gets what the others do not.
    pub(crate) fn queue(self: &Arc<Self>, instance: usize) -> LocalBoxStream<'static, Job> {
        if self.order.is_some() {
            return by_key::queue(Arc::clone(self), instance);
        }
        let each = |handler_queue: Arc<Self>| async move { Some((handler_queue.next().await, handler_queue)) };
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

    /// The first, if it may be handed out.
    pub(crate) fn take(self: &Arc<Self>) -> Next {
        let mut waiting = self.waiting_jobs();
        let Some(first) = waiting.jobs.front() else { return Next::Nothing };
        if let Work::Rest(_) = first.work {
            // Begun, and so paid for.
            return waiting.jobs.pop_front().map_or(Next::Nothing, Next::Job);
        }
        let bytes = first.received.body.len() as u64;
        // One that its key waits for goes even so: what fills the budget may be waiting behind it.
        if !self.in_hand.fits(bytes) && first.received.hold.get().is_none() {
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
        job.received.charge(Charge { handler_queue: Arc::clone(self), bytes: AtomicU64::new(bytes) });
        Next::Job(job)
    }

    /// The consumer's end of the way back; there is one, and it is lent to one consumer at a time.
    pub(crate) fn answers(self: &Arc<Self>) -> Option<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Answers { handler_queue: Arc::clone(self), answers: Some(answers) })
    }

    /// Most bytes that handlers may have in hand.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.in_hand.limit()
    }

    /// Whether anything may be left to [`take`](Self::take).
    pub(crate) fn has_more(&self) -> bool {
        !self.waiting_jobs().jobs.is_empty()
    }

    /// Deliveries no handler has taken; of batches that are sorted by key, items.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting_jobs().jobs.len() + self.order.as_ref().map_or(0, Order::waiting)
    }

    /// Deliveries that wait for a handler or are in the hands of one, those of lost channels and those that were given
    /// up included: each has a ticket, and each ticket a sender.
    pub(crate) fn unanswered(&self) -> usize {
        self.completions.strong_count().saturating_sub(1)
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
    handler_queue: Arc<HandlerQueue>,
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
        *self.handler_queue.answers.lock().unwrap_or_else(PoisonError::into_inner) = self.answers.take();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::consume::message::received::tests::received;

    /// Bodies of four bytes each.
    fn filled(handler_queue: &Arc<HandlerQueue>, count: usize) {
        for _ in 0..count {
            handler_queue.push(Arc::new(received(1)));
        }
    }

    #[tokio::test]
    async fn past_the_byte_budget_nothing_is_handed_out_until_something_is_settled() {
        let handler_queue = HandlerQueue::new(true, 8, None, None);
        filled(&handler_queue, 3);
        let (mut one, mut other) = (handler_queue.queue(0), handler_queue.queue(0));
        let first = one.next().await.unwrap();
        let _second = other.next().await.unwrap();
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        let third = tokio::spawn(async move { first.received.release() });
        let _job = one.next().await.unwrap();
        third.await.unwrap();
        assert_eq!(handler_queue.waiting(), 0);
    }

    #[tokio::test]
    async fn what_a_body_unpacks_to_counts_and_is_given_back_once() {
        let handler_queue = HandlerQueue::new(true, 100, None, None);
        filled(&handler_queue, 3);
        let mut queue = handler_queue.queue(0);
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
        handler_queue.answers().unwrap().take(&mut back, 2).await;
        drop(back);
        let _third = queue.next().await.unwrap();
        assert!(!handler_queue.in_hand.fits(97), "the third's four bytes, and no more than those, are in hand");
        assert!(handler_queue.in_hand.fits(96));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_the_first_one_back_where_it_can_be_taken_back() {
        let handler_queue = HandlerQueue::new(true, 100, Some(RateLimit::per_second(10, 1)), None);
        filled(&handler_queue, 3);
        let mut queue = handler_queue.queue(0);
        let start = Instant::now();
        let _first = queue.next().await.unwrap();
        let _second = queue.next().await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(100));
        assert!(queue.next().now_or_never().is_none() && handler_queue.is_paced());
        handler_queue.clear();
        assert_eq!(handler_queue.waiting(), 0);
        assert!(queue.next().now_or_never().is_none());
    }
}
