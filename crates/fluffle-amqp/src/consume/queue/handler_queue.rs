//! The handler queue: deliveries go from a consumer's session to its handlers, and answers go back.
//!
//! Each consumer has one queue. All its handler instances take from it when they have room, so uneven work is shared
//! evenly, and a handler that crashes does not affect the waiting deliveries. If order is kept by key, each instance
//! takes only messages of its own keys.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures_util::{StreamExt, stream::LocalBoxStream};
use tokio::sync::mpsc;

use crate::{
    base::{attempt_report::AttemptListeners, events::DeliveryEvent, observer::Listeners},
    consume::{
        attempt::{
            attempt::Attempt,
            items::Opened,
            job::Job,
            ticket::{Completion, Completions, Ticket},
        },
        events::delivery_events::DeliveryEvents,
        message::received::Received,
        queue::{
            by_key::{ByKey, SortBy},
            waiting::Waiting,
        },
    },
    link::channel::Generation,
};

/// The handler queue of one consumer. Its sessions and its handlers share it, and it outlives every restart of both.
pub(crate) struct HandlerQueue {
    pub(super) waiting: Arc<Waiting>,
    pub(super) by_key: Option<Arc<ByKey>>,
    pub(crate) events: Arc<DeliveryEvents>,
    /// Whether anybody listens. Beside `events`, because the session's thread writes to the counters in there all the
    /// time: a handler's thread that read from their cache line would wait for it.
    is_heard: bool,
    completions: Completions,
    /// The receiver of the answers. It is lent to one session at a time.
    answers: Mutex<Option<mpsc::UnboundedReceiver<Completion>>>,
}

impl HandlerQueue {
    /// A queue that nobody listens to.
    #[cfg(test)]
    pub(crate) fn new(waiting: Waiting, sort_by: Option<SortBy>) -> Arc<Self> {
        Self::heard_by((Listeners::default(), AttemptListeners::default()), waiting, sort_by)
    }

    /// A queue over `waiting`, of a consumer that these listen to; `sort_by` if order is kept by key.
    pub(crate) fn heard_by(
        (listeners, attempts): (Listeners<DeliveryEvent>, AttemptListeners),
        waiting: Waiting,
        sort_by: Option<SortBy>,
    ) -> Arc<Self> {
        let (is_heard, events) = (listeners.is_heard(), Arc::new(DeliveryEvents::new(listeners, attempts)));
        let (completions, answers) = mpsc::unbounded_channel();
        let waiting = Arc::new(waiting);
        let by_key = sort_by.map(|sort_by| Arc::new(ByKey::new(Arc::clone(&waiting), sort_by)));
        Arc::new(Self { waiting, by_key, events, is_heard, completions, answers: Mutex::new(Some(answers)) })
    }

    /// Starts a generation: see [`Waiting::begin`].
    pub(crate) fn begin(&self, generation: Generation) {
        if self.waiting.begin(generation) {
            self.by_key.iter().for_each(|by_key| by_key.take_back(|_| true));
        }
    }

    pub(crate) fn is_ours(&self, message: &Received) -> bool {
        self.waiting.is_ours(message)
    }

    /// Adds a delivery. Handlers are woken for it by [`announce`](Self::announce).
    pub(crate) fn push(&self, attempt: Arc<Attempt>) {
        let ticket = Ticket::new(Arc::clone(&attempt), self.completions.clone());
        self.waiting.push(Job::whole(attempt, ticket));
    }

    /// The time, if listeners want to hear how long decoding takes.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.is_heard.then(Instant::now)
    }

    /// A handler takes the delivery, or begins to take its items. It was decoded from `decoded_from` on.
    pub(crate) fn start(&self, attempt: &Attempt, decoded_from: Option<Instant>) {
        attempt.start();
        if self.is_heard {
            self.events.started(attempt, decoded_from);
        }
    }

    pub(crate) fn announce(&self) {
        self.waiting.announce();
    }

    pub(crate) fn go_on(&self, rest: Opened) {
        self.waiting.go_on(rest);
    }

    /// Takes back everything that no handler has begun.
    pub(crate) fn clear(&self) {
        self.waiting.clear();
        self.by_key.iter().for_each(|by_key| by_key.clear(|job| !job.is_begun()));
    }

    /// Takes one delivery back, unless a handler has begun it.
    pub(crate) fn take_back(&self, generation: Generation, tag: u64) {
        let is_it = |job: &Job| (job.attempt.generation, job.attempt.tag) == (generation, tag) && !job.is_begun();
        self.waiting.take_back(is_it);
        self.by_key.iter().for_each(|by_key| by_key.take_back(is_it));
    }

    /// The stream of jobs for one handler instance. It never ends, and no other instance gets the same jobs.
    pub(crate) fn jobs(&self, instance: usize) -> LocalBoxStream<'static, Job> {
        if let Some(by_key) = &self.by_key {
            return ByKey::jobs(Arc::clone(by_key), instance);
        }
        let each = |waiting: Arc<Waiting>| async move { Some((waiting.next().await, waiting)) };
        futures_util::stream::unfold(Arc::clone(&self.waiting), each).boxed_local()
    }

    /// Lends the receiver of the answers. `None` while the previous session still has it.
    pub(crate) fn answers(self: &Arc<Self>) -> Option<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Answers { queue: Arc::clone(self), answers: Some(answers) })
    }

    /// The most bytes that handlers may have in hand.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.waiting.in_hand.bytes.limit()
    }

    /// How many deliveries no handler has taken. Of a batch that is sorted by key, each item counts.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.by_key.as_ref().map_or(0, |by_key| by_key.len())
    }

    /// Deliveries that wait for a handler or that a handler has, including those of lost channels and those that were
    /// given up. Each has a ticket, and each ticket a sender.
    pub(crate) fn unanswered(&self) -> usize {
        self.completions.strong_count().saturating_sub(1)
    }

    /// Whether it is the rate limit they wait for.
    pub(crate) fn is_paced(&self) -> bool {
        self.waiting.is_paced()
    }
}

/// The receiver of the answers. When it is dropped, its queue has it again.
pub(crate) struct Answers {
    queue: Arc<HandlerQueue>,
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
        *self.queue.answers.lock().unwrap_or_else(PoisonError::into_inner) = self.answers.take();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consume::attempt::attempt::tests::attempt;
    use crate::flow::rate::RateLimit;
    use futures_util::FutureExt;

    fn plain(bytes: u64, rate: Option<RateLimit>) -> Arc<HandlerQueue> {
        HandlerQueue::new(Waiting::new(true, bytes, rate, false), None)
    }

    /// Bodies of four bytes each.
    fn filled(handler_queue: &Arc<HandlerQueue>, count: usize) {
        for _ in 0..count {
            handler_queue.push(Arc::new(attempt(1)));
        }
    }

    #[tokio::test]
    async fn past_the_byte_budget_nothing_is_handed_out_until_something_is_settled() {
        let handler_queue = plain(8, None);
        filled(&handler_queue, 3);
        let (mut one, mut other) = (handler_queue.jobs(0), handler_queue.jobs(0));
        let first = one.next().await.unwrap();
        let _second = other.next().await.unwrap();
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        let third = tokio::spawn(async move { first.attempt.permits.free_bytes() });
        let _job = one.next().await.unwrap();
        third.await.unwrap();
        assert_eq!(handler_queue.len(), 0);
    }

    #[tokio::test]
    async fn what_a_body_unpacks_to_counts_and_is_given_back_once() {
        let handler_queue = plain(100, None);
        filled(&handler_queue, 3);
        let mut queue = handler_queue.jobs(0);
        let first = queue.next().await.unwrap();
        first.attempt.unpacked(200);
        assert!(queue.next().now_or_never().is_none());
        first.attempt.permits.free_bytes();
        drop(first);
        let second = queue.next().await.unwrap();
        second.attempt.unpacked(4);
        drop(second);
        // The dropped job answers that it was not begun, and its attempt is on the way back to the session.
        let mut back = Vec::new();
        handler_queue.answers().unwrap().take(&mut back, 2).await;
        drop(back);
        let _third = queue.next().await.unwrap();
        assert!(
            !handler_queue.waiting.in_hand.bytes.fits(97),
            "exactly the four bytes of the third delivery are in hand"
        );
        assert!(handler_queue.waiting.in_hand.bytes.fits(96));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_the_first_one_back_where_it_can_be_taken_back() {
        let handler_queue = plain(100, Some(RateLimit::per_second(10, 1)));
        filled(&handler_queue, 3);
        let mut queue = handler_queue.jobs(0);
        let start = tokio::time::Instant::now();
        let _first = queue.next().await.unwrap();
        let _second = queue.next().await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(100));
        assert!(queue.next().now_or_never().is_none() && handler_queue.is_paced());
        handler_queue.clear();
        assert_eq!(handler_queue.len(), 0);
        assert!(queue.next().now_or_never().is_none());
    }
}
