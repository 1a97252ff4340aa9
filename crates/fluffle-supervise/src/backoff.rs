//! The delay before a child is started again.

use std::time::Duration;

use crate::policy::PolicyError;

/// How long a child that ended waits before it is started again: exponential, with *full jitter*.
///
/// The wait before restart *n* (from 0) is drawn uniformly from `min ..= min(max, min × factorⁿ)`, so children that
/// failed together do not come back together ([the
/// reasons](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)). If the child had been ready
/// for [`reset_after`](Self::reset_after) before it ended, the count starts again at 0.
///
/// Default: 100 ms to 30 s, factor 2, reset after 10 s.
///
/// ```
/// use std::time::Duration;
/// use fluffle_supervise::Backoff;
///
/// let patient = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(60))?
///     .factor(3.0)?
///     .reset_after(Duration::from_secs(30));
/// # let _ = patient;
///
/// let refused = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1)).unwrap_err();
/// assert!(refused.to_string().contains("must not be longer"));
/// # Ok::<(), fluffle_supervise::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    factor: f64,
    reset_after: Duration,
    first_at_once: bool,
    seed: Option<u64>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            reset_after: Duration::from_secs(10),
            first_at_once: false,
            seed: None,
        }
    }
}

impl Backoff {
    /// Waits of at least `min` and at most `max`. The upper end of the range doubles with each failure.
    ///
    /// # Errors
    /// [`PolicyError::ZeroMin`] when `min` is zero, [`PolicyError::MinAboveMax`] when `min` is above `max`.
    pub fn exponential(min: Duration, max: Duration) -> Result<Self, PolicyError> {
        if min.is_zero() {
            return Err(PolicyError::ZeroMin);
        }
        if min > max {
            return Err(PolicyError::MinAboveMax { min, max });
        }
        Ok(Self { min, max, ..Self::default() })
    }

    /// No wait: the child is restarted at once. Only the supervisor's [`Intensity`](crate::Intensity) then limits a
    /// crash loop.
    #[must_use]
    pub fn none() -> Self {
        Self { min: Duration::ZERO, max: Duration::ZERO, ..Self::default() }
    }

    /// By how much the upper end of the range grows with each failure. Default: 2. With a factor of 1 every wait is
    /// `min`.
    ///
    /// # Errors
    /// [`PolicyError::Factor`] when `factor` is below 1 or not finite.
    pub fn factor(mut self, factor: f64) -> Result<Self, PolicyError> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(PolicyError::Factor(factor));
        }
        self.factor = factor;
        Ok(self)
    }

    /// How long a child must have been ready so that its next failure counts as its first. Default: 10 s.
    #[must_use]
    pub fn reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = healthy;
        self
    }

    /// No wait before the first restart in a row: the waits begin with the second one. For a child that has another way
    /// to try.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fluffle_supervise::Backoff;
    ///
    /// let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1))?.first_at_once();
    /// assert_eq!(backoff.wait(0), Duration::ZERO);
    /// assert_eq!(backoff.wait(1), Duration::from_millis(10));
    /// # Ok::<(), fluffle_supervise::PolicyError>(())
    /// ```
    #[must_use]
    pub fn first_at_once(mut self) -> Self {
        self.first_at_once = true;
        self
    }

    /// Draws the waits from this seed, so that a test sees the same ones each time. Default: a random seed for each
    /// child.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Draws a wait before try `attempt` (from 0), for code that is not supervised but waits by the same policy.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fluffle_supervise::Backoff;
    ///
    /// let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1))?;
    /// assert_eq!(backoff.wait(0), Duration::from_millis(10));
    /// assert!(backoff.wait(3) <= Duration::from_millis(80));
    /// # Ok::<(), fluffle_supervise::PolicyError>(())
    /// ```
    pub fn wait(&self, attempt: u32) -> Duration {
        let mut rng =
            self.seed.map_or_else(fastrand::Rng::new, |seed| fastrand::Rng::with_seed(seed ^ u64::from(attempt)));
        self.draw(attempt, &mut rng)
    }

    fn draw(&self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        let attempt = match (self.first_at_once, attempt.checked_sub(1)) {
            (true, None) => return Duration::ZERO,
            (true, Some(after_the_first)) => after_the_first,
            (false, _) => attempt,
        };
        let ceiling = self.ceiling(attempt);
        self.min + ceiling.saturating_sub(self.min).mul_f64(rng.f64())
    }

    /// The longest wait before restart `attempt` (from 0).
    fn ceiling(&self, attempt: u32) -> Duration {
        let grown = self.min.as_secs_f64() * self.factor.powf(f64::from(attempt));
        // Compared as floats before the conversion, because min × factor^attempt may exceed what a Duration can hold.
        if grown < self.max.as_secs_f64() { Duration::from_secs_f64(grown).max(self.min) } else { self.max }
    }
}

/// The state of one child's backoff: how many restarts it had in a row.
#[derive(Debug)]
pub(crate) struct Waits {
    policy: Backoff,
    attempt: u32,
    rng: fastrand::Rng,
}

impl Waits {
    pub(crate) fn new(policy: Backoff) -> Self {
        let rng = policy.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self { policy, attempt: 0, rng }
    }

    /// The next wait, and the number (from 1) of the restart in a row that follows it. `healthy` is how long the child
    /// had been ready.
    pub(crate) fn next(&mut self, healthy: Option<Duration>) -> (Duration, u32) {
        if healthy.is_some_and(|healthy| healthy >= self.policy.reset_after) {
            self.attempt = 0;
        }
        let wait = self.policy.draw(self.attempt, &mut self.rng);
        self.attempt = self.attempt.saturating_add(1);
        (wait, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn arguments_that_make_no_sense_are_refused_with_the_reason() {
        assert_eq!(Backoff::exponential(Duration::ZERO, MS), Err(PolicyError::ZeroMin));
        assert_eq!(Backoff::exponential(2 * MS, MS), Err(PolicyError::MinAboveMax { min: 2 * MS, max: MS }));
        for factor in [0.5, 0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Backoff::default().factor(factor), Err(PolicyError::Factor(factor)));
        }
        assert!(matches!(Backoff::default().factor(f64::NAN), Err(PolicyError::Factor(_))));
    }

    #[test]
    fn the_ceiling_grows_by_the_factor_up_to_max() {
        let backoff = Backoff::exponential(10 * MS, 100 * MS).unwrap().factor(3.0).unwrap();
        let ceilings: Vec<_> = (0..5).map(|n| backoff.ceiling(n)).collect();
        assert_eq!(ceilings, [10 * MS, 30 * MS, 90 * MS, 100 * MS, 100 * MS]);
    }

    #[test]
    fn the_ceiling_stays_at_max_whatever_the_attempt() {
        let backoff = Backoff::exponential(MS, Duration::MAX).unwrap().factor(f64::MAX).unwrap();
        assert_eq!(backoff.ceiling(u32::MAX), Duration::MAX);
        let mut waits = Waits::new(backoff);
        waits.attempt = u32::MAX;
        waits.next(None);
        assert_eq!(waits.attempt, u32::MAX);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let backoff = Backoff::exponential(10 * MS, 1000 * MS).unwrap().seed(7);
        let mut waits = Waits::new(backoff);
        let drawn: Vec<_> = (0..1000)
            .map(|_| {
                waits.attempt = 20;
                waits.next(None).0
            })
            .collect();
        assert!(drawn.iter().all(|wait| (10 * MS..=1000 * MS).contains(wait)));
        assert!(drawn.iter().any(|wait| *wait < 100 * MS), "full jitter reaches down to min");
        assert!(drawn.iter().any(|wait| *wait > 900 * MS), "and up to the ceiling");
    }

    #[test]
    fn a_healthy_spell_starts_the_count_over_and_a_short_one_does_not() {
        let mut waits = Waits::new(Backoff::default().reset_after(10 * MS));
        assert_eq!(waits.next(None).1, 1);
        assert_eq!(waits.next(Some(9 * MS)).1, 2);
        assert_eq!(waits.next(Some(10 * MS)).1, 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let draw = |seed| {
            let mut waits = Waits::new(Backoff::default().seed(seed));
            (0..8).map(|_| waits.next(None).0).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn none_never_waits() {
        let mut waits = Waits::new(Backoff::none());
        for _ in 0..100 {
            assert_eq!(waits.next(None).0, Duration::ZERO);
        }
    }
}
