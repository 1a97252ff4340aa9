//! The steps of a shutdown: the time that they share, and what the log tells of them. What each consumer and publisher
//! leaves, they say themselves.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use fluffle_supervise::{EventStream, ExitReason, What};

/// The shortest time for a shutdown in all, whatever its limit: connections are closed in it.
const LEAST: Duration = Duration::from_secs(1);

/// The longest that the steps after the consumers' work are left, out of the limit.
const MOST_RESERVED: Duration = Duration::from_secs(4);

/// By when a step of a shutdown must be over, in the order in which they come. What one does not use is the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Handlers have answered what they had in hand, and it is settled.
    Work,
    /// The consumers' channels are closed.
    ConsumerChannels,
    /// And their connections.
    Consumers,
    Application,
    /// The publishers have their confirms.
    Confirms,
    PublisherChannels,
    Publishers,
    Handlers,
    /// Journals are flushed, and it is over.
    All,
}

impl Step {
    /// Of what is left after the work, how much may have gone by, in percent.
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

/// The time of one shutdown, which all its steps share: a step that is cut off leaves the next ones their part.
#[derive(Clone)]
pub(crate) struct Clock {
    limit: Duration,
    begun: Arc<OnceLock<Instant>>,
}

impl Clock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, begun: Arc::default() }
    }

    /// The limit as the application set it.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The shutdown begins now, unless it has begun.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// How long handlers may go on with what they have in hand.
    pub(crate) fn for_work(&self) -> Duration {
        self.mark(Step::Work)
    }

    /// When `step` must be over, from the beginning on.
    pub(crate) fn mark(&self, step: Step) -> Duration {
        let work = self.limit - (self.limit / 4).min(MOST_RESERVED);
        let rest = self.limit.max(LEAST).saturating_sub(work);
        work + rest * step.share() / 100
    }

    /// How long what belongs to `step` may take now. Without a shutdown, when a single part is stopped: as long as if
    /// one began now.
    pub(crate) fn left(&self, step: Step) -> Duration {
        let gone = self.begun.get().map(Instant::elapsed).unwrap_or_default();
        self.mark(step).saturating_sub(gone)
    }

    /// [`left`](Self::left), of something that is stopped in a shutdown only, which begins now if nobody has said so: a
    /// service that gives up stops by itself.
    pub(crate) fn left_of_shutdown(&self, step: Step) -> Duration {
        self.begin();
        self.left(step)
    }
}

/// Tells of each step when it is over, until the tree is.
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

/// In the order in which they come (`tree.rs`).
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
