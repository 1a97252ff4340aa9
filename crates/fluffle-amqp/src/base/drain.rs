//! The steps of a shutdown: how they share the time limit, and the log line of each. Each consumer and publisher logs
//! by itself which messages it leaves unsettled.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use fluffle_supervise::{EventStream, ExitReason, What};

/// The shortest time for a whole shutdown, even if its limit is shorter: closing the connections takes time.
const LEAST: Duration = Duration::from_secs(1);

/// At most this much of the limit is reserved for the steps after the consumers' work.
const MOST_RESERVED: Duration = Duration::from_secs(4);

/// The steps of a shutdown, in their order. Time that a step does not use is left for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Handlers answer the deliveries they have in hand, and these are settled.
    Work,
    /// The consumers' channels close.
    ConsumerChannels,
    /// The consumers' connections close.
    Consumers,
    /// The actors stop that the application has put under supervision.
    Application,
    /// The publishers wait for their confirms.
    Confirms,
    /// The publishers' channels close.
    PublisherChannels,
    /// The publishers' connections close.
    Publishers,
    /// The handlers stop.
    Handlers,
    /// Journals are flushed; then the shutdown is over.
    All,
}

impl Step {
    /// The end of this step, in percent of the time that is reserved for the steps after the work.
    fn share(self) -> u32 {
        match self {
            Self::Work => 0,
            Self::ConsumerChannels => 20,
            Self::Consumers => 30,
            Self::Application => 45,
            Self::Confirms => 70,
            Self::PublisherChannels => 75,
            Self::Publishers => 85,
            Self::Handlers => 92,
            Self::All => 100,
        }
    }
}

/// The time limit of one shutdown, shared by all its steps. A step is cut off at its own deadline, so that the next
/// steps keep their shares.
#[derive(Clone)]
pub(crate) struct Clock {
    limit: Duration,
    begun: Arc<OnceLock<Instant>>,
}

impl Clock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, begun: Arc::default() }
    }

    /// The limit, as set by the application.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Starts the shutdown's clock. If it has started before, nothing happens.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// When the shutdown began, if it has.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.begun.get().copied()
    }

    /// How long handlers may go on with the deliveries they have in hand, from the beginning of the shutdown.
    pub(crate) fn for_work(&self) -> Duration {
        self.mark(Step::Work)
    }

    /// The deadline of `step`, as a time since the beginning of the shutdown.
    pub(crate) fn mark(&self, step: Step) -> Duration {
        let work = self.limit - (self.limit / 4).min(MOST_RESERVED);
        let rest = self.limit.max(LEAST).saturating_sub(work);
        work + rest * step.share() / 100
    }

    /// The time left until the deadline of `step`. If no shutdown has begun, because a single part is being stopped,
    /// this is the time that `step` would have if a shutdown began now.
    pub(crate) fn left(&self, step: Step) -> Duration {
        let gone = self.begun.get().map(Instant::elapsed).unwrap_or_default();
        self.mark(step).saturating_sub(gone)
    }

    /// Like [`left`](Self::left), for a part that is stopped only in a shutdown. If the clock has not started, it
    /// starts now, because a service that gives up stops by itself, without a call of `begin`.
    pub(crate) fn left_of_shutdown(&self, step: Step) -> Duration {
        self.begin();
        self.left(step)
    }
}

/// Logs the end of each step, until the supervision tree has ended.
pub(crate) async fn tell(mut events: EventStream) {
    let mut begun = Instant::now();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        let (What::Exited { reason }, Some(step)) = (&event.what, step(&event.path)) else { continue };
        let took = begun.elapsed();
        match reason {
            ExitReason::Killed => tracing::warn!(step, ?took, "drain: cut off at its deadline"),
            _ => tracing::info!(step, ?took, "drain: stopped"),
        }
        begun = Instant::now();
    }
}

/// The name of the step that ends with the supervisor at `path`; the paths are those of the tree that `service/mod.rs`
/// builds.
fn step(path: &str) -> Option<&'static str> {
    match path {
        "app/consume" => Some("consumers"),
        "app/application" => Some("application"),
        "app/publish" => Some("publishers"),
        "app/handlers" => Some("handlers"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 9] = [
        Step::Work,
        Step::ConsumerChannels,
        Step::Consumers,
        Step::Application,
        Step::Confirms,
        Step::PublisherChannels,
        Step::Publishers,
        Step::Handlers,
        Step::All,
    ];

    #[test]
    fn steps_come_one_after_the_other_and_all_together_take_the_limit() {
        for limit in [0, 1, 50, 999, 1_000, 15_000, 86_400_000].map(Duration::from_millis) {
            let clock = Clock::new(limit);
            let marks = STEPS.map(|step| clock.mark(step));
            assert!(marks.is_sorted_by(|one, next| one < next), "{marks:?}");
            assert!(marks[0] >= limit * 3 / 4, "the work has most of it: {marks:?}");
            assert_eq!(marks[8], limit.max(LEAST));
        }
    }

    #[test]
    fn time_that_has_gone_by_is_nobodys_and_a_part_that_stops_alone_has_its_own() {
        let clock = Clock::new(Duration::from_secs(60));
        assert_eq!(clock.left(Step::Work), clock.mark(Step::Work));
        let shared = clock.clone();
        clock.begin();
        while shared.left(Step::All) == shared.mark(Step::All) {
            std::thread::yield_now();
        }
        assert!(shared.left(Step::Work) < shared.mark(Step::Work));
    }
}
