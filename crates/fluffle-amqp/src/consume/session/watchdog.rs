//! Finds deliveries that wait too long for a handler or take too long in one, and handlers that no longer answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    base::numbered::Numbered,
    consume::{attempt::attempt::Attempt, queue::handler_queue::HandlerQueue},
};

/// Deliveries are checked four times within the shortest limit, but no more often than every `SHORTEST_CHECK` and at
/// least every `LONGEST_CHECK`.
const SHORTEST_CHECK: Duration = Duration::from_millis(10);
const LONGEST_CHECK: Duration = Duration::from_secs(1);

/// If deliveries wait and no handler answers for longer than this, a warning is logged.
const STALLED: Duration = Duration::from_secs(10);

/// The time limits of a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long a handler may have it.
    pub(crate) handler_timeout: Duration,
    /// How old it may become before a handler begins it; then it is given back. `None` if it is acked already.
    pub(crate) give_back_after: Option<Duration>,
    /// How long the broker waits for its ack before it closes the channel. `None` if it is acked already.
    pub(crate) consumer_timeout: Option<Duration>,
}

/// What must be done about a delivery because of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// It has been unacked for half of the broker's `consumer_timeout`: log a warning.
    Warn,
    /// No handler has begun it in time: give it back, so that another consumer can handle it.
    GiveBack,
    /// Its handler has had it for too long: the attempt fails.
    FailAttempt,
}

impl Patience {
    /// What is due for a delivery that arrived `age` ago, and that a handler has had for `with_handler`; `None` if no
    /// handler has begun it.
    pub(crate) fn due(&self, age: Duration, with_handler: Option<Duration>) -> Due {
        let past = |limit: Option<Duration>| limit.is_some_and(|limit| age > limit);
        match with_handler {
            Some(busy) if busy > self.handler_timeout => Due::FailAttempt,
            None if past(self.give_back_after) => Due::GiveBack,
            _ if past(self.consumer_timeout.map(|timeout| timeout / 2)) => Due::Warn,
            _ => Due::Nothing,
        }
    }

    pub(crate) fn check_every(&self) -> Duration {
        let limits = [Some(self.handler_timeout), self.give_back_after, self.consumer_timeout.map(|limit| limit / 2)];
        let shortest = limits.into_iter().flatten().min().unwrap_or(LONGEST_CHECK);
        (shortest / 4).clamp(SHORTEST_CHECK, LONGEST_CHECK)
    }
}

/// Watches the deliveries of one channel.
pub(crate) struct Watchdog {
    patience: Patience,
    /// The highest tag that was warned about. A lower tag is older, so all tags up to this one were warned about.
    warned: u64,
    /// When a handler last answered, or when no delivery waited for one, or only for the rate limit.
    moved: Instant,
}

impl Watchdog {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, warned: 0, moved: Instant::now() }
    }

    /// Notes that a handler has answered.
    pub(crate) fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Checks all deliveries in flight. Logs the warnings that are due, and returns the other things to do by delivery
    /// tag.
    pub(crate) fn look(&mut self, in_flight: &Numbered<Arc<Attempt>>) -> Vec<(u64, Due)> {
        let mut to_do = Vec::new();
        let mut warned = self.warned;
        for (tag, attempt) in in_flight.iter() {
            let age = attempt.at.elapsed();
            match self.patience.due(age, attempt.busy()) {
                Due::Nothing => {}
                Due::Warn if tag <= self.warned => {}
                Due::Warn => {
                    warned = warned.max(tag);
                    tracing::warn!(
                        queue = %attempt.queue, message_id = attempt.id_or_dash(),
                        attempt = attempt.attempt_number.get(), trace_id = attempt.trace_id(),
                        unacked_for = ?age, begun = attempt.is_started(),
                        consumer_timeout = ?self.patience.consumer_timeout,
                        "half way to the broker's consumer_timeout, after which the broker closes the channel: \
                         see `Consume::handler_timeout`"
                    );
                }
                due @ (Due::GiveBack | Due::FailAttempt) => to_do.push((tag, due)),
            }
        }
        self.warned = warned;
        to_do
    }

    /// Logs a warning if deliveries wait and no handler has answered for longer than [`STALLED`]. Without it, a handler
    /// that blocks its thread looks the same as a service without work.
    pub(crate) fn look_at_handlers(&mut self, queue: &str, handler_queue: &HandlerQueue, in_flight: usize) {
        let waiting = handler_queue.len();
        if waiting == 0 || handler_queue.is_paced() {
            self.moved();
        } else if self.moved.elapsed() > STALLED {
            tracing::warn!(
                queue, waiting, in_flight, for_ = ?STALLED,
                "deliveries wait, but no handler of this consumer answers: is its thread blocked? \
                 See `Consume::blocking`"
            );
            self.moved();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::attempt::attempt::tests::attempt;

    const MINUTE: Duration = Duration::from_secs(60);

    fn patience() -> Patience {
        Patience {
            handler_timeout: 10 * MINUTE,
            give_back_after: Some(12 * MINUTE),
            consumer_timeout: Some(30 * MINUTE),
        }
    }

    #[test]
    fn what_waits_is_given_back_and_what_a_handler_has_is_not() {
        let patience = patience();
        assert_eq!(patience.due(12 * MINUTE, None), Due::Nothing);
        assert_eq!(patience.due(13 * MINUTE, None), Due::GiveBack);
        assert_eq!(patience.due(14 * MINUTE, Some(MINUTE)), Due::Nothing);
        assert_eq!(patience.due(16 * MINUTE, Some(MINUTE)), Due::Warn);
        assert_eq!(patience.due(16 * MINUTE, Some(11 * MINUTE)), Due::FailAttempt);
    }

    #[test]
    fn what_was_acked_on_receipt_is_left_to_its_handler() {
        let patience = Patience { give_back_after: None, consumer_timeout: None, ..patience() };
        assert_eq!(patience.due(1000 * MINUTE, None), Due::Nothing);
        assert_eq!(patience.due(1000 * MINUTE, Some(MINUTE)), Due::Nothing);
        assert_eq!(patience.due(MINUTE, Some(11 * MINUTE)), Due::FailAttempt);
    }

    #[test]
    fn each_delivery_is_warned_about_once() {
        let none = Some(Duration::ZERO);
        let mut dog = Watchdog::new(Patience { consumer_timeout: none, give_back_after: None, ..patience() });
        let mut in_flight = Numbered::default();
        in_flight.insert(7, Arc::new(attempt(1)));
        dog.look(&in_flight);
        assert_eq!(dog.warned, 7);
        in_flight.insert(8, Arc::new(attempt(1)));
        dog.look(&in_flight);
        assert_eq!(dog.warned, 8);
    }

    #[test]
    fn the_shortest_limit_says_how_often_to_look() {
        assert_eq!(patience().check_every(), LONGEST_CHECK);
        let short = Patience { give_back_after: Some(Duration::from_millis(100)), ..patience() };
        assert_eq!(short.check_every(), Duration::from_millis(25));
    }
}
