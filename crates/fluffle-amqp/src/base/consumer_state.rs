//! What a consumer is doing, and since when.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// What a consumer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerState {
    /// It is not subscribed: it is starting or stopping, or its channel or connection is lost.
    #[default]
    Unsubscribed,
    /// It is subscribed and takes deliveries.
    Consuming,
    /// A message may be ending the process, so the consumer takes one message at a time, or waits for its turn to do
    /// so: see [`delivery_limit`](crate::Consume::delivery_limit).
    Isolating,
    /// Its circuit breaker is open: it is not subscribed until the breaker becomes half-open.
    BreakerOpen,
    /// Its circuit breaker, or a kill switch with a restart, is half-open: it takes a few deliveries as probes.
    Probing,
    /// Its kill switch has stopped it.
    Killed,
    /// Paused by the application: see [`Service::pause_consumer`](crate::Service::pause_consumer). It takes nothing;
    /// handlers may still be at work on what they had in hand.
    Paused,
}

/// The state of one consumer that was last told of.
pub(crate) struct StateLog(Mutex<(ConsumerState, Instant)>);

impl Default for StateLog {
    fn default() -> Self {
        Self(Mutex::new((ConsumerState::default(), Instant::now())))
    }
}

impl StateLog {
    /// Looks at the state. If it has changed, calls `tell` with the state before and the one of now. One look at a
    /// time, so that each change begins where the last one ended. Gives the state and since when it is that.
    pub(crate) fn look(
        &self,
        now: impl FnOnce() -> ConsumerState,
        tell: impl FnOnce(ConsumerState, ConsumerState),
    ) -> (ConsumerState, Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (last.0, now());
        if from != to {
            *last = (to, Instant::now());
            tell(from, to);
        }
        *last
    }
}
