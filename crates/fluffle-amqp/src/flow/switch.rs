//! The state machine below circuit breakers and kill switches.
//!
//! It is pure: the caller passes in the time.

use std::{collections::VecDeque, time::Duration};

use fluffle_supervise::Backoff;
use tokio::time::Instant;

/// The most outcomes that a window holds.
const LARGEST_WINDOW: usize = 10_000;

/// The outcomes that a ratio is taken of: the last ones up to a number and, if [`within`](Self::within) is set, only
/// the recent ones of them. It is read by serde, from a file: `{ last = 100, within = "60s", at_least = 20 }`.
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::Window;
///
/// let window = Window::last(100).within(Duration::from_secs(60)).at_least(20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    last: usize,
    within: Option<Duration>,
    at_least: usize,
}

impl Window {
    /// The last `outcomes`, clamped to 1 to 10,000, of any age. The ratio counts once there are 10 outcomes, or all of
    /// them if the window holds fewer; [`at_least`](Self::at_least) changes that number.
    pub fn last(outcomes: usize) -> Self {
        let last = outcomes.clamp(1, LARGEST_WINDOW);
        Self { last, within: None, at_least: last.min(10) }
    }

    /// Leaves out outcomes that are older than `age`.
    #[must_use]
    pub fn within(mut self, age: Duration) -> Self {
        self.within = Some(age);
        self
    }

    /// How many outcomes there must be before the ratio counts, clamped to 1 to the window's length: with a single
    /// outcome, one failure would be a ratio of 1.
    #[must_use]
    pub fn at_least(mut self, outcomes: usize) -> Self {
        self.at_least = outcomes.clamp(1, self.last);
        self
    }
}

/// A failure ratio that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("failure ratio = {0}, must be above 0 and at most 1")]
pub struct RatioError(f64);

/// When a switch opens, and how it closes again.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    ratio: f64,
    pub(crate) window: Window,
    /// How long it stays open; `None`: until it is reset.
    pub(crate) wait: Option<Backoff>,
    /// Successes that close it again, and the most probes at a time.
    pub(crate) probes: u16,
}

impl Terms {
    pub(crate) fn new(ratio: f64, window: Window, wait: Option<Backoff>) -> Result<Self, RatioError> {
        Ok(Self { ratio: checked(ratio)?, window, wait, probes: 1 })
    }

    /// Opens when half of the last 20 outcomes failed.
    pub(crate) fn half(wait: Backoff) -> Self {
        Self { ratio: 0.5, window: Window::last(20), wait: Some(wait), probes: 1 }
    }

    pub(crate) fn set_ratio(&mut self, ratio: f64) -> Result<(), RatioError> {
        self.ratio = checked(ratio)?;
        Ok(())
    }
}

fn checked(ratio: f64) -> Result<f64, RatioError> {
    if ratio > 0.0 && ratio <= 1.0 { Ok(ratio) } else { Err(RatioError(ratio)) }
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Every call is let through.
    #[default]
    Closed,
    /// No call is let through.
    Open,
    /// A few calls are let through as probes; their outcome closes or opens the breaker.
    HalfOpen,
}

/// A number that changes with each change of state. The outcome of a call that was let through in an earlier epoch says
/// nothing about the present state.
pub(crate) type Epoch = u64;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed,
    Open { until: Option<Instant> },
    HalfOpen { succeeded: u16, under_way: u16 },
}

/// A change of state that an outcome caused, with the numbers for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Opened { failures: usize, of: usize, wait: Option<Duration> },
    Closed,
}

#[derive(Debug)]
pub(crate) struct Switch {
    terms: Terms,
    phase: Phase,
    epoch: Epoch,
    /// Each outcome's time, and whether it is a failure.
    outcomes: VecDeque<(Instant, bool)>,
    /// The number of failures among `outcomes`.
    failures: usize,
    /// How many times it has opened since it was last closed.
    in_a_row: u32,
    /// When the present phase began.
    since: Instant,
}

/// A circuit breaker or kill switch at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwitchStatus {
    /// Its state.
    pub state: BreakerState,
    /// Since when.
    pub since: std::time::Instant,
    /// When it turns half-open by itself. `None` if it is not open, or stays open until it is reset.
    pub half_open_at: Option<std::time::Instant>,
}

impl Switch {
    pub(crate) fn new(terms: Terms) -> Self {
        let (phase, since) = (Phase::Closed, Instant::now());
        Self { terms, phase, epoch: 0, outcomes: VecDeque::new(), failures: 0, in_a_row: 0, since }
    }

    pub(crate) fn probes(&self) -> u16 {
        self.terms.probes
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The state at `now`. An open switch turns half-open here when its wait is over.
    pub(crate) fn state(&mut self, now: Instant) -> BreakerState {
        if let Phase::Open { until: Some(until) } = self.phase
            && now >= until
        {
            self.enter(Phase::HalfOpen { succeeded: 0, under_way: 0 }, until);
        }
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// When it turns half-open by itself; `None` if it is not open, or stays open until it is reset.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => until,
            Phase::Closed | Phase::HalfOpen { .. } => None,
        }
    }

    /// Lets a call through if the state allows it. The caller must [record](Self::record) its outcome or
    /// [withdraw](Self::withdraw) it, with the epoch that is returned.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<Epoch> {
        self.state(now);
        match &mut self.phase {
            Phase::Closed => Some(self.epoch),
            Phase::HalfOpen { under_way, .. } if *under_way < self.terms.probes => {
                *under_way += 1;
                Some(self.epoch)
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// A call of this epoch ended without an outcome that counts: its place as a probe is free again.
    pub(crate) fn withdraw(&mut self, epoch: Epoch) {
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase
            && epoch == self.epoch
        {
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// Counts the outcome of a call that was let through in `epoch`. An outcome of an earlier epoch does not count:
    /// failures of calls that were under way when the switch opened do not keep it open, and a late success does not
    /// close it.
    pub(crate) fn record(&mut self, epoch: Epoch, failed: bool, now: Instant) -> Option<Change> {
        if epoch != self.epoch {
            return None;
        }
        self.withdraw(epoch);
        match &mut self.phase {
            Phase::Open { .. } => None,
            Phase::HalfOpen { .. } if failed => Some(self.open(1, 1, now)),
            Phase::HalfOpen { succeeded, .. } => {
                *succeeded += 1;
                if *succeeded < self.terms.probes {
                    return None;
                }
                self.reset(now);
                Some(Change::Closed)
            }
            Phase::Closed => self.count(failed, now),
        }
    }

    /// Closes the switch and forgets all failures.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.in_a_row = 0;
        self.enter(Phase::Closed, now);
    }

    pub(crate) fn status(&mut self, now: Instant) -> SwitchStatus {
        let state = self.state(now);
        SwitchStatus { state, since: self.since.into_std(), half_open_at: self.due().map(Instant::into_std) }
    }

    fn count(&mut self, failed: bool, now: Instant) -> Option<Change> {
        self.outcomes.push_back((now, failed));
        self.failures += usize::from(failed);
        let window = self.terms.window;
        while self.outcomes.len() > window.last || self.oldest_is_past(window.within, now) {
            let Some((_, failed)) = self.outcomes.pop_front() else { break };
            self.failures -= usize::from(failed);
        }
        let (failures, of) = (self.failures, self.outcomes.len());
        let reached = failures as f64 >= self.terms.ratio * of as f64;
        (failed && of >= window.at_least && reached).then(|| self.open(failures, of, now))
    }

    fn oldest_is_past(&self, within: Option<Duration>, now: Instant) -> bool {
        match (within, self.outcomes.front()) {
            (Some(within), Some((at, _))) => now.saturating_duration_since(*at) > within,
            _ => false,
        }
    }

    fn open(&mut self, failures: usize, of: usize, now: Instant) -> Change {
        let wait = self.terms.wait.map(|backoff| backoff.wait(self.in_a_row));
        self.in_a_row = self.in_a_row.saturating_add(1);
        // A wait that the clock cannot represent counts as "until it is reset".
        self.enter(Phase::Open { until: wait.and_then(|wait| now.checked_add(wait)) }, now);
        Change::Opened { failures, of, wait }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since) = (phase, now);
        self.epoch += 1;
        self.outcomes.clear();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(first: u32, longest: u32) -> Option<Backoff> {
        Some(Backoff::exponential(first * SECOND, longest * SECOND).unwrap().factor(1.0).unwrap())
    }

    fn switch(ratio: f64, window: Window) -> Switch {
        Switch::new(Terms::new(ratio, window, waits(30, 30)).unwrap())
    }

    /// Records these outcomes in the present epoch: `x` is a failure.
    fn record(switch: &mut Switch, outcomes: &str, now: Instant) {
        for outcome in outcomes.chars() {
            switch.record(switch.epoch(), outcome == 'x', now);
        }
    }

    #[test]
    fn it_opens_when_the_ratio_is_reached_and_not_before_there_is_enough_to_judge_by() {
        let now = Instant::now();
        let mut switch = switch(0.5, Window::last(10).at_least(4));
        record(&mut switch, "xxx", now);
        assert_eq!(switch.state(now), BreakerState::Closed, "three are too few to judge by");
        record(&mut switch, "x", now);
        assert_eq!(switch.state(now), BreakerState::Open);

        let mut switch = self::switch(0.5, Window::last(10).at_least(4));
        record(&mut switch, "...x.x.x", now);
        assert_eq!(switch.state(now), BreakerState::Closed, "3 of 8");
        record(&mut switch, "xx", now);
        assert_eq!(switch.state(now), BreakerState::Open, "5 of 10");
    }

    #[test]
    fn what_left_the_window_counts_no_more() {
        let start = Instant::now();
        let mut switch = switch(0.5, Window::last(4));
        record(&mut switch, "...x...x...x...x", start);
        assert_eq!(switch.state(start), BreakerState::Closed, "never more than one of four");

        let mut switch = self::switch(0.5, Window::last(4).within(10 * SECOND).at_least(2));
        record(&mut switch, "x", start);
        let later = start + 11 * SECOND;
        record(&mut switch, "..x", later);
        assert_eq!(switch.state(later), BreakerState::Closed, "the first is forgotten: one of three");
        record(&mut switch, "x", later);
        assert_eq!(switch.state(later), BreakerState::Open);
    }

    #[test]
    fn it_turns_half_open_when_its_time_is_up_and_closes_after_as_many_successes_as_it_probes() {
        let now = Instant::now();
        let mut terms = Terms::new(1.0, Window::last(1), waits(30, 30)).unwrap();
        terms.probes = 2;
        let mut switch = Switch::new(terms);
        record(&mut switch, "x", now);
        assert_eq!(switch.due(), Some(now + 30 * SECOND));
        assert_eq!(switch.admit(now + 29 * SECOND), None);
        let half = now + 30 * SECOND;
        assert_eq!(switch.state(half), BreakerState::HalfOpen);
        let (first, second) = (switch.admit(half).unwrap(), switch.admit(half).unwrap());
        assert_eq!(switch.admit(half), None, "two probes at a time");
        switch.withdraw(first);
        let third = switch.admit(half).expect("a probe that came to nothing leaves its place");
        assert_eq!(switch.record(second, false, half), None);
        assert_eq!(switch.record(third, false, half), Some(Change::Closed));
        assert_eq!(switch.state(half), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_again_for_longer() {
        let now = Instant::now();
        let growing = Backoff::exponential(SECOND, 100 * SECOND).unwrap().seed(1);
        let mut switch = Switch::new(Terms::new(1.0, Window::last(1), Some(growing)).unwrap());
        let mut now = now;
        for in_a_row in 0..5 {
            let epoch = switch.admit(now).unwrap();
            let Some(Change::Opened { wait: Some(wait), .. }) = switch.record(epoch, true, now) else { panic!() };
            assert_eq!(wait, growing.wait(in_a_row));
            now += wait;
        }
        let epoch = switch.admit(now).unwrap();
        switch.record(epoch, false, now);
        let Some(Change::Opened { wait, .. }) = switch.record(switch.epoch(), true, now) else { panic!() };
        assert_eq!(wait, Some(growing.wait(0)), "once closed, it starts over");
    }

    #[test]
    fn outcomes_of_what_was_let_through_before_a_change_count_for_nothing() {
        let now = Instant::now();
        let mut switch = switch(1.0, Window::last(2));
        let before = switch.epoch();
        record(&mut switch, "xx", now);
        let half = now + 30 * SECOND;
        assert_eq!(switch.state(half), BreakerState::HalfOpen);
        assert_eq!(switch.record(before, true, half), None);
        assert_eq!(switch.record(before, false, half), None);
        assert_eq!(switch.state(half), BreakerState::HalfOpen);
    }

    #[test]
    fn without_a_wait_it_stays_open_until_it_is_reset() {
        let now = Instant::now();
        let mut switch = Switch::new(Terms::new(1.0, Window::last(1), None).unwrap());
        record(&mut switch, "x", now);
        assert_eq!(switch.due(), None);
        assert_eq!(switch.state(now + 1_000_000 * SECOND), BreakerState::Open);
        switch.reset(now);
        assert_eq!(switch.state(now), BreakerState::Closed);
    }

    #[test]
    fn a_ratio_that_makes_no_sense_is_refused() {
        for ratio in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
            assert!(Terms::new(ratio, Window::last(1), None).is_err(), "{ratio}");
        }
    }
}
