//! Circuit breakers and kill switches, as applications configure them: a shared [`Switch`], its log lines, and the
//! signal for tasks that wait for a change.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fluffle_supervise::Backoff;
use tokio::{sync::watch, time::Instant};

use crate::{
    base::failure::Failure,
    flow::switch::{BreakerState, Change, Epoch, RatioError, Switch, SwitchStatus, Terms, Window},
};

/// A [`Switch`] that several tasks use. It logs each change and signals it.
pub(crate) struct SharedSwitch {
    name: String,
    kind: SwitchKind,
    switch: Mutex<Switch>,
    /// Signals when the switch opens or closes. There is no signal when it turns half-open: that depends on time alone,
    /// and [`look`](Self::look) says when.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum SwitchKind {
    Breaker,
    KillSwitch,
}

impl SharedSwitch {
    fn new(name: String, kind: SwitchKind, terms: Terms) -> Arc<Self> {
        Arc::new(Self { name, kind, switch: Mutex::new(Switch::new(terms)), changed: watch::Sender::new(()) })
    }

    /// The state, its epoch, and when the switch turns half-open by itself.
    pub(crate) fn look(&self) -> (BreakerState, Epoch, Option<Instant>) {
        let mut switch = self.lock();
        (switch.state(Instant::now()), switch.epoch(), switch.due())
    }

    pub(crate) fn status(&self) -> SwitchStatus {
        self.lock().status(Instant::now())
    }

    /// How many probes may be under way at a time.
    pub(crate) fn probes(&self) -> u16 {
        self.lock().probes()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn record(&self, epoch: Epoch, failed: bool) {
        let change = self.lock().record(epoch, failed, Instant::now());
        if let Some(change) = change {
            self.tell(change);
            self.changed.send_replace(());
        }
    }

    /// Closes the switch. Returns whether it was open or half-open before.
    pub(crate) fn reset(&self) -> bool {
        let was = {
            let mut switch = self.lock();
            let now = Instant::now();
            let was = switch.state(now);
            switch.reset(now);
            was
        };
        self.changed.send_replace(());
        was != BreakerState::Closed
    }

    fn tell(&self, change: Change) {
        let name = &self.name;
        match (self.kind, change) {
            (SwitchKind::Breaker, Change::Opened { failures, of, wait }) => {
                tracing::warn!(
                    breaker = %name, failures, of, ?wait,
                    "the circuit breaker opens: its consumers take nothing until the wait is over"
                );
            }
            (SwitchKind::Breaker, Change::Closed) => {
                tracing::info!(breaker = %name, "the circuit breaker is closed again: its consumers take messages")
            }
            (SwitchKind::KillSwitch, Change::Opened { failures, of, wait: Some(wait) }) => {
                tracing::error!(
                    queue = %name, dead_letters = failures, of, ?wait,
                    "the kill switch stops this consumer, because so many of its messages became dead letters, until \
                     the wait is over"
                );
            }
            (SwitchKind::KillSwitch, Change::Opened { failures, of, wait: None }) => {
                tracing::error!(
                    queue = %name, dead_letters = failures, of,
                    "the kill switch stops this consumer, because so many of its messages became dead letters, until \
                     `Service::resume_consumer` is called"
                );
            }
            (SwitchKind::KillSwitch, Change::Closed) => {
                tracing::info!(queue = %name, "the kill switch lets this consumer take messages again")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops work while a service that it needs is failing, and probes now and then whether that service works again.
///
/// A *closed* breaker lets every call through. When the failures in a window of outcomes reach a ratio, the breaker
/// *opens*: for some time it lets nothing through. Then it is *half-open* and lets a few calls through, as probes. If
/// the probes succeed, the breaker closes; if one fails, it opens again, for a longer time. (Nygard, "Release It!";
/// Microsoft, "Circuit Breaker pattern".)
///
/// Around a consumer, with [`Consume::circuit_breaker`](crate::Consume::circuit_breaker): deliveries stay in their
/// queue while the breaker is open. Around a call, with [`call`](Self::call): for a handler that needs several services
/// of which one may be down.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`ratio`](Self::ratio) | 0.5 | the breaker opens when this part of the window has failed |
/// | [`window`](Self::window) | the last 20, from 10 on | the outcomes that the ratio is taken of |
/// | [`open_for`](Self::open_for) | 5 s to 60 s | the time for which it stays open; grows with each failed probe |
/// | [`probes`](Self::probes) | 1 | successes that close it, and the probes at a time |
/// | [`count_rejections`](Self::count_rejections) | no | whether a [`Failure::reject`] counts as a failure |
///
/// Clones share one state: two consumers that need one database stop together if they have clones of one breaker. A
/// setter makes a breaker with a state of its own, so set first and clone then.
///
/// It is read by serde, from a file: [`ConsumeSettings`](crate::ConsumeSettings#circuit-breaker) has the keys.
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{CircuitBreaker, Failure, Window};
/// use fluffle_supervise::Backoff;
///
/// # async fn charge() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let payments = CircuitBreaker::new("payments")
///     .ratio(0.3)?
///     .window(Window::last(50).within(Duration::from_secs(30)))
///     .open_for(Backoff::exponential(Duration::from_secs(10), Duration::from_secs(300))?);
///
/// // In a handler: `charge` is not begun while the breaker is open.
/// let charged: Result<(), Failure> = payments.call(async { charge().await }).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CircuitBreaker {
    pub(crate) terms: Terms,
    pub(crate) rejections: bool,
    shared: Arc<SharedSwitch>,
}

impl CircuitBreaker {
    /// A closed breaker. `name` appears in logs and errors: name the service that the breaker guards.
    pub fn new(name: impl Into<String>) -> Self {
        let wait = Backoff::exponential(Duration::from_secs(5), Duration::from_secs(60)).unwrap_or_default();
        let terms = Terms::half(wait);
        Self { shared: SharedSwitch::new(name.into(), SwitchKind::Breaker, terms.clone()), terms, rejections: false }
    }

    /// The part of the window that must have failed for the breaker to open: above 0, at most 1. Default: 0.5.
    ///
    /// # Errors
    /// If `ratio` is out of this range.
    pub fn ratio(mut self, ratio: f64) -> Result<Self, RatioError> {
        self.terms.set_ratio(ratio)?;
        Ok(self.renewed())
    }

    /// The outcomes that the ratio is taken of. Default: the last 20, once there are 10.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.terms.window = window;
        self.renewed()
    }

    /// How long the breaker stays open: first the shortest wait, then longer with each failed probe. Default: 5 s to 60
    /// s. Jitter keeps many processes from probing at the same moment.
    #[must_use]
    pub fn open_for(mut self, waits: Backoff) -> Self {
        self.terms.wait = Some(waits);
        self.renewed()
    }

    /// How many probes must succeed for the breaker to close; as many may be under way at a time. At least 1, the
    /// default.
    #[must_use]
    pub fn probes(mut self, count: u16) -> Self {
        self.terms.probes = count.max(1);
        self.renewed()
    }

    /// Counts [`Failure::reject`] as a failure. Without this, a rejection is about the message: it counts neither as a
    /// failure nor as a success of the guarded service.
    #[must_use]
    pub fn count_rejections(mut self) -> Self {
        self.rejections = true;
        self.renewed()
    }

    /// The state now.
    pub fn state(&self) -> BreakerState {
        self.shared.look().0
    }

    /// Runs `call` if the breaker lets it through, and counts its result.
    ///
    /// # Errors
    /// The error of `call`. If the breaker is open, a transient [`Failure`] that asks for a retry at the time at which
    /// the breaker turns half-open; `call` is then not started.
    ///
    /// # Cancellation
    /// If this future is dropped before it is ready, the call counts neither as a failure nor as a success.
    pub async fn call<O, E: Into<Failure>>(&self, call: impl Future<Output = Result<O, E>>) -> Result<O, Failure> {
        let permit = self.admit()?;
        match call.await {
            Ok(output) => {
                permit.record(false);
                Ok(output)
            }
            Err(error) => {
                let failure = error.into();
                if self.counts(&failure) {
                    permit.record(true);
                }
                Err(failure)
            }
        }
    }

    /// Whether `failure` counts as a failure of the guarded service. A refusal by a middleware does not: the handler,
    /// which needs that service, was not called.
    pub(crate) fn counts(&self, failure: &Failure) -> bool {
        !failure.is_before_the_handler() && (self.rejections || !failure.is_permanent())
    }

    pub(crate) fn shared(&self) -> &Arc<SharedSwitch> {
        &self.shared
    }

    fn admit(&self) -> Result<Permit<'_>, Failure> {
        let now = Instant::now();
        let mut switch = self.shared.lock();
        match (switch.admit(now), switch.due()) {
            (Some(epoch), _) => Ok(Permit { shared: &self.shared, epoch: Some(epoch) }),
            (None, Some(due)) => Err(Failure::retry(self.refusal()).after(due.saturating_duration_since(now))),
            (None, None) => Err(Failure::retry(self.refusal())),
        }
    }

    fn refusal(&self) -> BreakerOpen {
        BreakerOpen(self.shared.name.clone())
    }

    /// The same settings, with a state of its own.
    pub(crate) fn renewed(mut self) -> Self {
        self.shared = SharedSwitch::new(self.shared.name.clone(), SwitchKind::Breaker, self.terms.clone());
        self
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, state) = (&self.shared.name, self.state());
        f.debug_struct("CircuitBreaker").field("name", name).field("state", &state).finish_non_exhaustive()
    }
}

/// The circuit breaker did not let a call through.
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker `{0}` is open: the call was not started")]
struct BreakerOpen(String);

/// A call that was let through. If it is dropped without a record, another call may take its place.
struct Permit<'a> {
    shared: &'a SharedSwitch,
    epoch: Option<Epoch>,
}

impl Permit<'_> {
    fn record(mut self, failed: bool) {
        if let Some(epoch) = self.epoch.take() {
            self.shared.record(epoch, failed);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(epoch) = self.epoch {
            self.shared.lock().withdraw(epoch);
        }
    }
}

/// Stops a consumer when too many of its messages become dead letters, so that a faulty release does not move a whole
/// queue into the dead-letter queue: [`Consume::kill_switch`](crate::Consume::kill_switch). It is read by serde, from a
/// file: `{ ratio = 0.5, window = { last = 100 }, restart_after = "10m" }`.
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{Consume, KillSwitch, Window};
///
/// let switch = KillSwitch::new(0.5, Window::last(100).within(Duration::from_secs(60)))?;
/// let consume: Consume<String> = Consume::queue("orders").kill_switch(switch);
/// # Ok::<(), fluffle_amqp::RatioError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KillSwitch(Terms);

impl KillSwitch {
    /// A switch that stops the consumer when dead letters reach `ratio` (above 0, at most 1) of the messages in the
    /// window. The window counts messages that were handled or dead-lettered; a message that waits for a retry is not
    /// counted yet.
    ///
    /// # Errors
    /// If `ratio` is out of this range.
    pub fn new(ratio: f64, window: Window) -> Result<Self, RatioError> {
        Terms::new(ratio, window, None).map(Self)
    }

    /// Starts the consumer again after this wait, at least 1 ms: first with one message. If that message is handled,
    /// the consumer takes all messages again; if it becomes a dead letter, the consumer waits again. Without this
    /// setting the consumer stays stopped until [`Service::resume_consumer`](crate::Service::resume_consumer)
    /// is called or the process restarts.
    #[must_use]
    pub fn restart_after(mut self, wait: Duration) -> Self {
        let wait = wait.max(Duration::from_millis(1));
        self.0.wait = Backoff::exponential(wait, wait).ok();
        self
    }

    /// The switch of one consumer: it has a state of its own.
    pub(crate) fn shared(&self, queue: &str) -> Arc<SharedSwitch> {
        SharedSwitch::new(queue.to_owned(), SwitchKind::KillSwitch, self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn breaker() -> CircuitBreaker {
        let waits = Backoff::exponential(Duration::from_secs(30), Duration::from_secs(30)).unwrap();
        CircuitBreaker::new("downstream").window(Window::last(2)).open_for(waits)
    }

    async fn fail() -> Result<(), Failure> {
        Err(io::Error::other("away").into())
    }

    #[test]
    fn a_refusal_before_the_handler_does_not_count_even_where_rejections_do() {
        for breaker in [breaker(), breaker().count_rejections()] {
            assert!(breaker.counts(&Failure::retry("away")));
            assert!(!breaker.counts(&Failure::retry("away").before_the_handler()));
            assert!(!breaker.counts(&Failure::reject("not you").before_the_handler()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_begins_no_call_and_says_when_to_come_again() {
        let breaker = breaker();
        for _ in 0..2 {
            breaker.call(fail()).await.unwrap_err();
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_secs(10)).await;
        let refused = breaker.call(async { panic!("begun") as Result<(), Failure> }).await.unwrap_err();
        assert!(!refused.is_permanent());
        assert_eq!(refused.wait(), Some(Duration::from_secs(20)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.call(async { Ok::<_, Failure>(()) }).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_about_the_message_unless_it_is_to_count() {
        let reject = || async { Err::<(), _>(Failure::reject("bad")) };
        let (lenient, strict) = (breaker(), breaker().count_rejections());
        for _ in 0..2 {
            lenient.call(reject()).await.unwrap_err();
            strict.call(reject()).await.unwrap_err();
        }
        assert_eq!((lenient.state(), strict.state()), (BreakerState::Closed, BreakerState::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_leaves_its_place_to_the_next() {
        let breaker = breaker();
        for _ in 0..2 {
            breaker.call(fail()).await.unwrap_err();
        }
        tokio::time::advance(Duration::from_secs(30)).await;
        let dropped =
            tokio::time::timeout(Duration::from_secs(1), breaker.call(std::future::pending::<Result<(), Failure>>()));
        dropped.await.unwrap_err();
        breaker.call(async { Ok::<_, Failure>(()) }).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn clones_share_one_state() {
        let (one, other) = {
            let breaker = breaker();
            (breaker.clone(), breaker)
        };
        one.call(fail()).await.unwrap_err();
        other.call(fail()).await.unwrap_err();
        assert_eq!(one.state(), BreakerState::Open);
    }
}
