//! The state that the producers and handlers of one run share.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::amqp::PublishErrorKind;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

use crate::bench::{ledger::Ledger, meter::Meters, payload::Payload, plan::Plan};

/// How many different reasons for failed publishes are counted separately.
const REASONS: usize = 8;

/// State shared by producers and handlers.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) payload: Payload,
    pub(crate) ledger: Ledger,
    pub(crate) meters: Meters,
    /// The runtime of the watching thread, which has time for other tasks.
    pub(crate) aside: Handle,
    epoch: Instant,
    /// Messages that are due from `from` to `until` are measured. Both are in nanoseconds of this run's clock.
    from: AtomicU64,
    until: AtomicU64,
    /// A permit for each message that may be published and not handled. `None` without `--in-flight`.
    room: Option<Semaphore>,
    stop: watch::Sender<bool>,
    unsent: AtomicU64,
    foreign: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Run {
    pub(crate) fn new(plan: Plan, payload: Payload) -> Self {
        Self {
            payload,
            ledger: Ledger::new(plan.producers, plan.queues, plan.args.ordered_by.unwrap_or(1)),
            room: plan.args.in_flight.map(|messages| Semaphore::new(messages as usize)),
            meters: Meters::default(),
            aside: Handle::current(),
            epoch: Instant::now(),
            from: AtomicU64::new(u64::MAX),
            until: AtomicU64::new(u64::MAX),
            stop: watch::Sender::new(false),
            unsent: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            failures: Mutex::default(),
            plan,
        }
    }

    /// Converts an instant to nanoseconds of this run's clock.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        // The value comes from outside. If it overflows, any instant will do.
        self.epoch.checked_add(Duration::from_nanos(nanos)).unwrap_or_else(Instant::now)
    }

    /// Sets the period that is measured.
    pub(crate) fn measure(&self, from: Instant, until: Option<Instant>) {
        self.until.store(until.map_or(u64::MAX, |until| self.nanos(until)), Ordering::Relaxed);
        self.from.store(self.nanos(from), Ordering::Relaxed);
    }

    /// Whether a message that is due at `due` is measured.
    pub(crate) fn is_measured(&self, due: Instant) -> bool {
        let due = self.nanos(due);
        due >= self.from.load(Ordering::Relaxed) && due < self.until.load(Ordering::Relaxed)
    }

    /// Whether the load is over at `due`, so that the message is not sent any more.
    pub(crate) fn is_over(&self, due: Instant) -> bool {
        self.nanos(due) >= self.until.load(Ordering::Relaxed)
    }

    /// When the load ends, if this is known.
    pub(crate) fn until(&self) -> Option<Instant> {
        let until = self.until.load(Ordering::Relaxed);
        (until < u64::MAX).then(|| self.instant(until))
    }

    /// Stops publishing, including overdue messages.
    pub(crate) fn stop(&self) {
        self.until.fetch_min(self.nanos(Instant::now()), Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for [`stop`](Self::stop).
    pub(crate) async fn stopped(&self) {
        // Cannot fail, because this run owns the sender.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Waits until one more message may be in flight, and counts it.
    ///
    /// # Cancellation
    ///
    /// A dropped future has counted nothing.
    pub(crate) async fn enter(&self) {
        if let Some(room) = &self.room
            && let Ok(place) = room.acquire().await
        {
            // Given back by `leave`.
            place.forget();
        }
    }

    /// Counts a message in flight less: it was handled, or its publish has failed.
    pub(crate) fn leave(&self) {
        if let Some(room) = &self.room {
            room.add_permits(1);
        }
    }

    /// Records how many messages of an open loop were due but not sent when the run was stopped.
    pub(crate) fn note_unsent(&self, messages: u64) {
        self.unsent.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Records that a message of another run has arrived.
    pub(crate) fn note_foreign(&self) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Records a failed publish.
    pub(crate) fn note_failure(&self, kind: &PublishErrorKind) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let why = kind.to_string();
        let known = failures.contains_key(&why) || failures.len() < REASONS;
        *failures.entry(if known { why } else { "other reasons".to_owned() }).or_default() += 1;
    }

    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
