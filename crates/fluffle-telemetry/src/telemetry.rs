//! [`Telemetry`]: everything that is measured of one service.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use fluffle_amqp::{AttemptReport, Health, Observer, Service};
use hyper::body::Bytes;
use tokio::sync::watch;

use crate::{
    depths::LastDepths,
    metrics::{Metrics, gauges},
    names,
    observing::Watched,
    reading::{Family, Reading},
    sampling::sampler::{EVERY, Sampler},
    source::MetricSource,
    status::{
        Action,
        picture::{HistoryView, Picture},
    },
};

/// Everything that is measured of one service: its metrics, and a [`Picture`] of it twice a second.
///
/// Made before the service, because it observes the service from the first connect on; then [attached](Self::attach) to
/// it. A handle: clones share one telemetry. `App::telemetry` and `App::status` do both for you.
///
/// ```no_run
/// use fluffle_amqp::{Broker, DRAIN, Service, Topology};
/// use fluffle_telemetry::{Telemetry, text};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let telemetry = Telemetry::new();
/// let service = Service::start_observed(Broker::from_env()?, Topology::new(), DRAIN, telemetry.observers())?;
/// telemetry.attach(&service)?;
/// println!("{}", text::prometheus(&telemetry.read()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    metrics: Arc<Metrics>,
    watched: Arc<Watched>,
    service: OnceLock<Service>,
    sampler: Mutex<Option<Sampler>>,
    depths: Arc<LastDepths>,
    shots: watch::Sender<Option<Arc<Shot>>>,
    /// What the page may do.
    actions: OnceLock<Vec<&'static str>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let metrics = Arc::new(Metrics::new());
        let watched = Arc::new(Watched::new(&metrics));
        let (shots, _) = watch::channel(None);
        let (service, sampler, actions) = (OnceLock::new(), Mutex::default(), OnceLock::new());
        let depths = Arc::default();
        Self { inner: Arc::new(Inner { metrics, watched, service, sampler, depths, shots, actions }) }
    }
}

impl Telemetry {
    /// Telemetry of a service that is not started yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the status page show something of single messages: `formatter` makes a line of text of an attempt, and must
    /// leave out what must not be seen. Without one, the page shows neither bodies nor headers. It is called for the
    /// messages that the page keeps: those that failed, the slowest, and one of a thousand. A text is cut after 500
    /// characters. Only the first call counts.
    ///
    /// ```
    /// let telemetry = fluffle_telemetry::Telemetry::new().describe_messages(|attempt| {
    ///     Some(format!("{} bytes, starting with {:02x?}", attempt.body.len(), attempt.body.first()?))
    /// });
    /// ```
    #[must_use]
    pub fn describe_messages(
        self,
        formatter: impl Fn(&AttemptReport<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let _ = self.inner.watched.formatter.set(Box::new(formatter));
        self
    }

    /// What the service must be given at its start: `App::observe` for each, or
    /// [`Service::start_observed`](fluffle_amqp::Service::start_observed).
    #[must_use]
    pub fn observers(&self) -> Vec<Arc<dyn Observer>> {
        vec![Arc::clone(&self.inner.metrics) as _, Arc::clone(&self.inner.watched) as _]
    }

    /// From now on looks at `service` twice a second, on a thread of its own; and every 5 s, on another one, asks
    /// outbox tables and the broker what waits in them and in dead-letter queues ([`Service::outboxes`],
    /// [`Service::dead_letters`]). The threads end with the service or with the last handle of this. Only the first
    /// call counts: a telemetry has one service.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn attach(&self, service: &Service) -> std::io::Result<()> {
        if self.inner.service.set(service.clone()).is_err() {
            return Ok(());
        }
        let (metrics, watched) = (Arc::clone(&self.inner.metrics), Arc::clone(&self.inner.watched));
        self.inner.depths.watch(service.clone())?;
        let sampler = Sampler::new(service.clone(), metrics, watched, Arc::clone(&self.inner.depths));
        *self.inner.sampler.lock().unwrap_or_else(PoisonError::into_inner) = Some(sampler);
        let inner = Arc::downgrade(&self.inner);
        thread::Builder::new().name("telemetry".to_owned()).spawn(move || watch_on(&inner)).map(drop)
    }

    /// All metrics at this moment: what was counted, and what the service is doing. For renderers and adapters of your
    /// own ([`MetricSource`]); [`text`](crate::text) has those for Prometheus. It waits for no thread of the service,
    /// so it answers while handlers block.
    #[must_use]
    pub fn read(&self) -> Vec<Family> {
        let mut reading = Reading::default();
        self.inner.metrics.read_into(&mut reading);
        if let Some(service) = self.inner.service.get() {
            gauges::read(&service.status(), &service.snapshot(), &mut reading);
            gauges::read_health(&service.health(), &mut reading);
            gauges::read_depths(&self.inner.depths.get(), &mut reading);
        }
        for line in self.picture().iter().flat_map(|picture| &picture.ledger) {
            #[allow(clippy::cast_precision_loss, reason = "a few messages")]
            reading.number(&names::LEDGER_IMBALANCE, &[line.side, &line.of], line.imbalance as f64);
        }
        reading.families()
    }

    /// What the service looked like at the last look; `None` before the first.
    #[must_use]
    pub fn picture(&self) -> Option<Arc<Picture>> {
        self.inner.shots.borrow().as_ref().map(|shot| Arc::clone(&shot.picture))
    }

    /// Each shot as it is taken. A slow reader misses some, and finds the latest.
    pub(crate) fn shots(&self) -> watch::Receiver<Option<Arc<Shot>>> {
        self.inner.shots.subscribe()
    }

    /// Fifteen minutes of rates. `None` before [`attach`](Self::attach).
    #[must_use]
    pub fn history(&self) -> Option<HistoryView> {
        let sampler = self.inner.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        sampler.as_ref().map(Sampler::history)
    }

    /// Whether the service is alive and ready: [`Service::health`]. `None` before [`attach`](Self::attach).
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.inner.service.get().map(Service::health)
    }

    /// The page may do this.
    pub(crate) fn allow(&self, actions: &BTreeSet<Action>) {
        let _ = self.inner.actions.set(actions.iter().map(|action| action.as_str()).collect());
    }

    /// The service that this was attached to.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        self.inner.service.get()
    }
}

impl MetricSource for Telemetry {
    fn read(&self) -> Vec<Family> {
        self.read()
    }

    fn since(&self) -> SystemTime {
        self.inner.metrics.since
    }
}

/// A picture, and the same as a line of JSON, which is made once for all readers and only if there are any.
pub(crate) struct Shot {
    pub(crate) picture: Arc<Picture>,
    line: OnceLock<Bytes>,
}

impl Shot {
    fn new(picture: Picture) -> Self {
        Self { picture: Arc::new(picture), line: OnceLock::new() }
    }

    /// Whether the service has ended.
    pub(crate) fn is_of_the_end(&self) -> bool {
        self.picture.process.state == "ended"
    }

    pub(crate) fn line(&self) -> Bytes {
        // A picture has no map with keys that are no texts, so that this does not fail.
        let make = || serde_json::to_string(&*self.picture).map(|line| Bytes::from(line + "\n")).unwrap_or_default();
        self.line.get_or_init(make).clone()
    }
}

/// Looks at the service until it has ended, or nobody has the telemetry any more.
fn watch_on(inner: &Weak<Inner>) {
    loop {
        let began = Instant::now();
        let Some(inner) = inner.upgrade() else { return };
        let picture = {
            let mut sampler = inner.sampler.lock().unwrap_or_else(PoisonError::into_inner);
            let actions = inner.actions.get().cloned().unwrap_or_default();
            sampler.as_mut().map(|sampler| Picture { actions, ..sampler.look() })
        };
        let shot = picture.map(|picture| Arc::new(Shot::new(picture)));
        let is_over = shot.as_ref().is_none_or(|shot| shot.is_of_the_end());
        inner.shots.send_replace(shot);
        drop(inner);
        if is_over {
            return;
        }
        thread::sleep(EVERY.saturating_sub(began.elapsed()).max(Duration::from_millis(10)));
    }
}
