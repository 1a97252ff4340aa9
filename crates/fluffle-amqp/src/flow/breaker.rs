//! Circuit breakers and kill switches as applications name them: a shared [`Switch`], its log, and who waits for it.

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
    flow::switch::{BreakerState, Change, Epoch, RatioError, Switch, Terms, Window},
};

/// A [`Switch`] that several look at, and that says what it does.
pub(crate) struct SharedSwitch {
    name: String,
    kind: Kind,
    switch: Mutex<Switch>,
    /// Ticks when it opens or closes; that it turns half-open is a matter of time.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Breaker,
    KillSwitch,
}

impl SharedSwitch {
    fn new(name: String, kind: Kind, terms: Terms) -> Arc<Self> {
        Arc::new(Self { name, kind, switch: Mutex::new(Switch::new(terms)), changed: watch::Sender::new(()) })
    }

    /// Where it stands, under which epoch, and when it will turn half-open by itself.
    pub(crate) fn look(&self) -> (BreakerState, Epoch, Option<Instant>) {
        let mut switch = self.lock();
        (switch.state(Instant::now()), switch.epoch(), switch.due())
    }

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

    /// Closes it; whether it was anything else.
    pub(crate) fn reset(&self) -> bool {
        let was = {
            let mut switch = self.lock();
            let was = switch.state(Instant::now());
            switch.reset();
            was
        };
        self.changed.send_replace(());
        was != BreakerState::Closed
    }

    fn tell(&self, change: Change) {
        let name = &self.name;
        match (self.kind, change) {
            (Kind::Breaker, Change::Opened { failures, of, wait }) => {
                tracing::warn!(breaker = %name, failures, of, ?wait, "the circuit breaker opens");
            }
            (Kind::Breaker, Change::Closed) => tracing::info!(breaker = %name, "the circuit breaker is closed again"),
            (Kind::KillSwitch, Change::Opened { failures, of, wait: Some(wait) }) => {
                tracing::error!(queue = %name, dead_letters = failures, of, ?wait, "the kill switch stops this consumer");
            }
            (Kind::KillSwitch, Change::Opened { failures, of, wait: None }) => {
                tracing::error!(
                    queue = %name, dead_letters = failures, of,
                    "the kill switch stops this consumer, until `Service::resume` is called"
                );
            }
            (Kind::KillSwitch, Change::Closed) => {
                tracing::info!(queue = %name, "the kill switch lets it consume again")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops work while it would only fail, and tries now and then whether it is over.
///
/// *Closed*, all goes through. When failures reach a ratio of a window it *opens*: nothing goes through for a while. Then it
/// is *half-open* and lets a few through; when they succeed it closes, when one fails it opens again, for longer.
/// (Nygard, "Release It!"; Microsoft, "Circuit Breaker pattern".)
///
/// Around a consumer, [`Consume::circuit_breaker`](crate::Consume::circuit_breaker): deliveries stay in their queue while it
/// is open. Around a call, [`call`](Self::call), for a handler that needs several things of which one may be down.
///
/// | setting | default | |
/// |---|---|---|
/// | [`ratio`](Self::ratio) | 0.5 | opens when this part of the window failed |
/// | [`window`](Self::window) | the last 20, from 10 on | |
/// | [`open_for`](Self::open_for) | 5 s to 60 s | the wait before it tries, growing with each failed try |
/// | [`probes`](Self::probes) | 1 | successes that close it, and how many are tried at a time |
/// | [`count_rejections`](Self::count_rejections) | no | whether [`Failure::reject`] is a failure of what is guarded |
///
/// Clones share one state: two consumers that need one database stop together when they are given clones of one breaker.
/// A setting makes a breaker of its own, so set first and clone then.
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
    terms: Terms,
    rejections: bool,
    shared: Arc<SharedSwitch>,
}

impl CircuitBreaker {
    /// A closed breaker; `name` says in logs and errors what it guards.
    pub fn new(name: impl Into<String>) -> Self {
        let wait = Backoff::exponential(Duration::from_secs(5), Duration::from_secs(60)).unwrap_or_default();
        let terms = Terms::half(wait);
        Self { shared: SharedSwitch::new(name.into(), Kind::Breaker, terms.clone()), terms, rejections: false }
    }

    /// Which part of the window must have failed for it to open: above 0, at most 1.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn ratio(mut self, ratio: f64) -> Result<Self, RatioError> {
        self.terms.set_ratio(ratio)?;
        Ok(self.renewed())
    }

    /// Over which outcomes the ratio is taken.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.terms.window = window;
        self.renewed()
    }

    /// How long it stays open: the shortest wait first, with each failed try more. Jitter keeps many processes from trying
    /// at the same moment.
    #[must_use]
    pub fn open_for(mut self, waits: Backoff) -> Self {
        self.terms.wait = Some(waits);
        self.renewed()
    }

    /// How many successes close it, and how many are tried for that at a time. At least 1.
    #[must_use]
    pub fn probes(mut self, count: u16) -> Self {
        self.terms.probes = count.max(1);
        self.renewed()
    }

    /// Counts [`Failure::reject`] as a failure. Without, a rejection is about the message, and neither a failure nor a
    /// success of what is guarded.
    #[must_use]
    pub fn count_rejections(mut self) -> Self {
        self.rejections = true;
        self.renewed()
    }

    /// Where it stands now.
    pub fn state(&self) -> BreakerState {
        self.shared.look().0
    }

    /// Runs `call` if the breaker lets it through, and learns from its result.
    ///
    /// # Errors
    /// `call`'s own; or, when the breaker is open, a transient [`Failure`] that asks to be tried again when it will be
    /// half-open.
    ///
    /// # Cancellation
    /// Dropped before it is ready, the call counts neither as failed nor as done.
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

    /// Whether `failure` speaks against what is guarded. A refusal by a middleware does not: the handler, which needs
    /// what is guarded, was not called.
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

    fn renewed(mut self) -> Self {
        self.shared = SharedSwitch::new(self.shared.name.clone(), Kind::Breaker, self.terms.clone());
        self
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, state) = (&self.shared.name, self.state());
        f.debug_struct("CircuitBreaker").field("name", name).field("state", &state).finish_non_exhaustive()
    }
}

/// The circuit breaker did not let it through.
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker `{0}` is open: not tried")]
struct BreakerOpen(String);

/// One call let through. Dropped unrecorded, it leaves its place to another.
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

/// Stops a consumer when too many of its messages end as dead letters, so that a bad release does not move a whole queue
/// into the dead-letter queue: [`Consume::kill_switch`](crate::Consume::kill_switch).
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
    /// Trips when dead letters reach `ratio` (above 0, at most 1) of the messages in the window. Messages that are handled
    /// or dead-lettered are in it; those that are retried have not ended yet.
    ///
    /// # Errors
    /// When `ratio` is anything else.
    pub fn new(ratio: f64, window: Window) -> Result<Self, RatioError> {
        Terms::new(ratio, window, None).map(Self)
    }

    /// Consumes again after this wait: first one message, and all of them when it is handled; when it is a dead letter too,
    /// it waits again. Without, [`Service::resume`](crate::Service::resume) starts it again, or a restart of the process.
    #[must_use]
    pub fn restart_after(mut self, wait: Duration) -> Self {
        let wait = wait.max(Duration::from_millis(1));
        self.0.wait = Backoff::exponential(wait, wait).ok();
        self
    }

    pub(crate) fn shared(&self, queue: &str) -> Arc<SharedSwitch> {
        SharedSwitch::new(queue.to_owned(), Kind::KillSwitch, self.0.clone())
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
