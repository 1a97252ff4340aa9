//! The deliveries of one consumer that no handler has begun.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::time::{Instant, sleep_until};

use crate::{
    consume::{
        attempt::{
            attempt::Attempt,
            items::Opened,
            job::{Job, Work},
            permits::InHand,
        },
        message::received::Received,
    },
    flow::rate::RateLimit,
    link::channel::Generation,
};

/// What waits for handlers. The broker's prefetch bounds how many deliveries that are; the budget bounds how many bytes
/// of them handlers have in hand; the rate limit says how fast handlers get them. A delivery that must not be handed
/// out yet waits at the front, where it can be taken back.
pub(crate) struct Waiting {
    jobs: Mutex<Jobs>,
    pub(crate) in_hand: Arc<InHand>,
    rate: Option<RateLimit>,
    /// Something has been pushed since the last [announcement](Self::announce).
    unannounced: AtomicBool,
    generation: AtomicU64,
    /// Deliveries are acked when they arrive, so those of an older channel belong to nobody else.
    acked_on_arrival: bool,
    /// Order is kept by key.
    keyed: bool,
}

struct Jobs {
    queue: VecDeque<Job>,
    /// The rate limit holds the first one back.
    paced: bool,
}

/// What a handler that has room gets.
pub(crate) enum Next {
    Job(Job),
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing until something changes.
    Nothing,
}

impl Waiting {
    pub(crate) fn new(acked_on_arrival: bool, most_bytes: u64, rate: Option<RateLimit>, keyed: bool) -> Self {
        Self {
            jobs: Mutex::new(Jobs { queue: VecDeque::new(), paced: false }),
            in_hand: InHand::new(most_bytes),
            rate,
            unannounced: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            acked_on_arrival,
            keyed,
        }
    }

    /// Starts a generation. What waits from older channels is dropped, because the broker delivers it again, unless it
    /// was acked on arrival. Gives whether it was dropped.
    pub(crate) fn begin(&self, generation: Generation) -> bool {
        self.generation.store(generation, Ordering::Release);
        if !self.acked_on_arrival {
            let taken = std::mem::take(&mut self.jobs().queue);
            // Outside the lock: each ticket answers for itself.
            drop(taken);
        }
        !self.acked_on_arrival
    }

    /// Whether a delivery is still this consumer's to handle.
    pub(crate) fn is_ours(&self, message: &Received) -> bool {
        self.acked_on_arrival || message.generation == self.generation.load(Ordering::Acquire)
    }

    /// Adds a job at the end; at the front if it holds its key already, because everything else of the key waits for
    /// it. Handlers hear of it when it is [announced](Self::announce).
    pub(crate) fn push(&self, job: Job) {
        if self.keyed && job.attempt.permits.key().is_some() {
            self.jobs().queue.push_front(job);
        } else {
            self.jobs().queue.push_back(job);
        }
        self.unannounced.store(true, Ordering::Release);
    }

    /// Wakes handlers for everything that has been pushed.
    pub(crate) fn announce(&self) {
        if self.unannounced.swap(false, Ordering::AcqRel) {
            self.in_hand.changed.notify_waiters();
        }
    }

    /// Puts what a handler left of a batch first, for the next handler.
    pub(crate) fn go_on(&self, rest: Opened) {
        let attempt = Arc::clone(&rest.items.attempt);
        self.jobs().queue.push_front(Job { attempt, work: Work::Rest(rest) });
        self.in_hand.changed.notify_waiters();
    }

    /// Takes back what no handler has begun.
    pub(crate) fn clear(&self) {
        let mut jobs = self.jobs();
        let (begun, taken) = jobs.queue.drain(..).partition(Job::is_begun);
        jobs.queue = begun;
        drop(jobs);
        // Outside the lock: each ticket answers for itself.
        drop::<VecDeque<Job>>(taken);
    }

    /// Takes back the first job that `is_meant`.
    pub(crate) fn take_back(&self, is_meant: impl Fn(&Job) -> bool) {
        let mut jobs = self.jobs();
        let taken = jobs.queue.iter().position(is_meant).and_then(|place| jobs.queue.remove(place));
        drop(jobs);
        // Outside the lock: its ticket answers for itself.
        drop(taken);
    }

    /// Waits for the next job. Cancellation safe: a job is taken and returned in one go.
    pub(crate) async fn next(&self) -> Job {
        if let Next::Job(job) = self.take() {
            return job;
        }
        loop {
            // Made before the look, so that nothing is missed: what comes after it wakes it.
            let changed = self.in_hand.changed.notified();
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

    /// Takes the first job, if it may be handed out now.
    pub(crate) fn take(&self) -> Next {
        let mut jobs = self.jobs();
        let Some(first) = jobs.queue.front() else { return Next::Nothing };
        if let Work::Rest(_) = first.work {
            // Begun, so its bytes and its turn are counted already.
            return jobs.queue.pop_front().map_or(Next::Nothing, Next::Job);
        }
        let bytes = first.attempt.body.len() as u64;
        // One that holds its key goes ahead even so: what fills the budget may be waiting for that key.
        let goes_ahead = |attempt: &Attempt| self.keyed && attempt.permits.key().is_some();
        if !self.in_hand.bytes.fits(bytes) && !goes_ahead(&first.attempt) {
            return Next::Nothing;
        }
        if let Some(Err(again)) = self.rate.as_ref().map(RateLimit::try_take) {
            jobs.paced = true;
            return Next::NotBefore(again);
        }
        let Some(job) = jobs.queue.pop_front() else { return Next::Nothing };
        jobs.paced = false;
        // Under the lock, or a second taker would see the same room.
        job.attempt.permits.take_bytes(&self.in_hand, bytes);
        Next::Job(job)
    }

    /// Whether anything may be left to [`take`](Self::take).
    pub(crate) fn has_more(&self) -> bool {
        !self.jobs().queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs().queue.len()
    }

    /// Whether the rate limit holds the first one back.
    pub(crate) fn is_paced(&self) -> bool {
        self.jobs().paced
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
