//! The deliveries of one consumer that wait for a handler, in the order in which they came.

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

/// The deliveries that wait for handlers. The broker's prefetch bounds how many there are. The byte budget bounds how
/// many bytes handlers have in hand. The rate limit sets how fast handlers get deliveries. A delivery that must not be
/// handed out yet stays at the front, where it can still be taken back.
pub(crate) struct Waiting {
    jobs: Mutex<Jobs>,
    pub(crate) in_hand: Arc<InHand>,
    rate: Option<RateLimit>,
    /// Something has been pushed since the last [announcement](Self::announce).
    unannounced: AtomicBool,
    generation: AtomicU64,
    /// Deliveries are acked when they arrive, so deliveries of an older channel are still handled here.
    acked_on_arrival: bool,
    /// Order is kept by key.
    keyed: bool,
}

struct Jobs {
    queue: VecDeque<Job>,
    /// The rate limit holds the first job back.
    paced: bool,
}

/// The answer to a handler that has room for a job.
pub(crate) enum Next {
    Job(Job),
    /// No job before this time.
    NotBefore(Instant),
    /// No job until [`InHand::changed`] is notified.
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

    /// Starts a channel generation. Deliveries of older channels are dropped, because the broker delivers them again.
    /// If deliveries are acked on arrival, they are kept. Returns whether they were dropped.
    pub(crate) fn begin(&self, generation: Generation) -> bool {
        self.generation.store(generation, Ordering::Release);
        if !self.acked_on_arrival {
            let taken = std::mem::take(&mut self.jobs().queue);
            // Dropped outside the lock, because each ticket answers when it is dropped.
            drop(taken);
        }
        !self.acked_on_arrival
    }

    /// Whether this consumer may still handle a delivery. If not, its channel is lost and the broker delivers it again.
    pub(crate) fn is_ours(&self, message: &Received) -> bool {
        self.acked_on_arrival || message.generation == self.generation.load(Ordering::Acquire)
    }

    /// Adds a job at the end. If its attempt has locked its key already, the job is added at the front, because
    /// everything else of the key waits for it. Handlers are woken for it by [`announce`](Self::announce).
    pub(crate) fn push(&self, job: Job) {
        if self.keyed && job.attempt.permits.key().is_some() {
            self.jobs().queue.push_front(job);
        } else {
            self.jobs().queue.push_back(job);
        }
        self.unannounced.store(true, Ordering::Release);
    }

    /// Wakes handlers, if something has been pushed since the last call.
    pub(crate) fn announce(&self) {
        if self.unannounced.swap(false, Ordering::AcqRel) {
            self.in_hand.changed.notify_waiters();
        }
    }

    /// Puts the rest of a batch, which its handler left behind, at the front for the next handler.
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
        // Dropped outside the lock, because each ticket answers when it is dropped.
        drop::<VecDeque<Job>>(taken);
    }

    /// Takes back the first job for which `is_meant` is true.
    pub(crate) fn take_back(&self, is_meant: impl Fn(&Job) -> bool) {
        let mut jobs = self.jobs();
        let taken = jobs.queue.iter().position(is_meant).and_then(|place| jobs.queue.remove(place));
        drop(jobs);
        // Dropped outside the lock, because its ticket answers when it is dropped.
        drop(taken);
    }

    /// Waits for the next job. Cancellation safe, because there is no await between taking a job and returning it.
    pub(crate) async fn next(&self) -> Job {
        if let Next::Job(job) = self.take() {
            return job;
        }
        loop {
            // Created before the check, so that a delivery that arrives after the check wakes this task.
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
            // The batch was begun, so the budget and the rate limit have counted it already.
            return jobs.queue.pop_front().map_or(Next::Nothing, Next::Job);
        }
        let bytes = first.attempt.body.len() as u64;
        // A job that has its key locked ignores the budget, because what uses up the budget may be waiting for that
        // key.
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
        // Taken under the lock, or a second handler would see the same free bytes.
        job.attempt.permits.take_bytes(&self.in_hand, bytes);
        Next::Job(job)
    }

    /// Whether a job is left.
    pub(crate) fn has_more(&self) -> bool {
        !self.jobs().queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs().queue.len()
    }

    /// Whether the rate limit holds the first job back.
    pub(crate) fn is_paced(&self) -> bool {
        self.jobs().paced
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
