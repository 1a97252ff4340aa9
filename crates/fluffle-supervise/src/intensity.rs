//! The restart budget of a supervisor.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::policy::PolicyError;

/// A supervisor's restart budget: how many restarts it allows within a time window. If a child would need one restart
/// more, the supervisor stops its children and [escalates](crate::ExitReason::Escalated).
///
/// A restart of several children for one failure (one-for-all, rest-for-one) counts once, as in OTP
/// ([maximum restart intensity](https://www.erlang.org/doc/system/sup_princ.html#maximum-restart-intensity)).
///
/// Default: 3 restarts in 5 s, as in Elixir.
///
/// ```
/// use std::time::Duration;
/// use fluffle_supervise::Intensity;
///
/// let strict = Intensity::new(0, Duration::from_secs(1))?; // the first failure escalates
/// # let _ = strict;
/// assert!(Intensity::new(3, Duration::ZERO).is_err());
/// # Ok::<(), fluffle_supervise::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    limit: Option<(u32, Duration)>,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { limit: Some((3, Duration::from_secs(5))) }
    }
}

impl Intensity {
    /// At most `max_restarts` restarts within any window of length `within`. With 0 the first failure escalates.
    ///
    /// # Errors
    /// [`PolicyError::ZeroWindow`] when `within` is zero.
    pub fn new(max_restarts: u32, within: Duration) -> Result<Self, PolicyError> {
        if within.is_zero() {
            return Err(PolicyError::ZeroWindow);
        }
        Ok(Self { limit: Some((max_restarts, within)) })
    }

    /// Never gives up. Right for a child that must come back however long it takes, such as a connection to a broker.
    /// Give such a child a [`Backoff`](crate::Backoff) with a sensible `max`.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { limit: None }
    }
}

/// The restarts that a supervisor has already spent.
#[derive(Debug)]
pub(crate) struct Budget {
    intensity: Intensity,
    /// At most `max_restarts` entries, oldest first.
    spent: VecDeque<Instant>,
}

/// The budget is used up: `restarts` restarts happened within the window `within`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) restarts: u32,
    pub(crate) within: Duration,
}

impl Budget {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self { intensity, spent: VecDeque::new() }
    }

    /// Spends one restart. Fails if none is left in the current window.
    pub(crate) fn spend(&mut self, now: Instant) -> Result<(), Exhausted> {
        let Some((max, within)) = self.intensity.limit else {
            return Ok(());
        };
        while self.spent.front().is_some_and(|oldest| now.duration_since(*oldest) >= within) {
            self.spent.pop_front();
        }
        if self.spent.len() >= max as usize {
            return Err(Exhausted { restarts: max, within });
        }
        self.spent.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn an_empty_window_is_refused() {
        assert_eq!(Intensity::new(1, Duration::ZERO), Err(PolicyError::ZeroWindow));
    }

    #[test]
    fn the_restart_past_the_budget_is_refused_until_the_window_has_moved_on() {
        let mut budget = Budget::new(Intensity::new(2, 5 * SEC).unwrap());
        let start = Instant::now();
        assert_eq!(budget.spend(start), Ok(()));
        assert_eq!(budget.spend(start + SEC), Ok(()));
        let exhausted = Err(Exhausted { restarts: 2, within: 5 * SEC });
        assert_eq!(budget.spend(start + 4 * SEC), exhausted);
        assert_eq!(budget.spend(start + 5 * SEC), Ok(()), "the first one is out of the window");
        assert_eq!(budget.spend(start + 5 * SEC), exhausted);
    }

    #[test]
    fn a_budget_of_none_refuses_the_first() {
        let mut budget = Budget::new(Intensity::new(0, SEC).unwrap());
        assert!(budget.spend(Instant::now()).is_err());
    }

    #[test]
    fn an_unlimited_budget_remembers_nothing() {
        let mut budget = Budget::new(Intensity::unlimited());
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(budget.spend(now), Ok(()));
        }
        assert!(budget.spent.is_empty());
    }
}
