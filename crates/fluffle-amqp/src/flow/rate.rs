//! Rate limits: governor's generic cell rate algorithm, on tokio's clock.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    state::{InMemoryState, NotKeyed},
};
use tokio::{sync::Mutex, time::Instant};

use crate::base::clock;

/// A limit on the rate of messages: they are evenly spaced, except that after a pause up to `burst` messages go at
/// once.
///
/// In any span of time *t* at most `burst + rate × t` messages go. Clones share one limit, so that several publishers
/// or consumers can keep the limit of one downstream service together. The limit holds for this process alone. Used
/// with [`Consume::rate_limit`](crate::Consume::rate_limit) and [`Route::rate_limit`](crate::Route::rate_limit). It is
/// read by serde, from a file: `{ per_second = 500, burst = 50 }`, or `per_minute`.
///
/// ```
/// use fluffle_amqp::{Consume, RateLimit, Route};
///
/// let consume: Consume<String> = Consume::queue("texts").rate_limit(RateLimit::per_minute(30, 1));
/// let route: Route<String> = Route::queue("texts").rate_limit(RateLimit::per_second(500, 50));
/// ```
#[derive(Clone)]
pub struct RateLimit {
    limiter: Arc<RateLimiter<NotKeyed, InMemoryState, RuntimeClock>>,
    /// The waiting callers stand in line: only the first one looks at the limiter.
    line: Arc<Mutex<()>>,
}

impl RateLimit {
    /// `count` messages a second, and up to `burst` at once; each is at least 1.
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self::every(Duration::from_secs(1), count, burst)
    }

    /// `count` messages a minute, and up to `burst` at once; each is at least 1.
    pub fn per_minute(count: u32, burst: u32) -> Self {
        Self::every(Duration::from_secs(60), count, burst)
    }

    fn every(time: Duration, count: u32, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let each = time / count.max(1);
        let quota = Quota::with_period(each).unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX)).allow_burst(burst);
        Self { limiter: Arc::new(RateLimiter::direct_with_clock(quota, RuntimeClock)), line: Arc::default() }
    }

    /// Takes one message's turn if it may go now. The error is the time at which to ask again.
    pub(crate) fn try_take(&self) -> Result<(), Instant> {
        self.limiter.check().map_err(|early| Instant::from_std(early.earliest_possible()))
    }

    /// Takes one message's turn if it may go now and no caller waits in line. Returns whether it did.
    pub(crate) fn take_now(&self) -> bool {
        self.line.try_lock().is_ok() && self.try_take().is_ok()
    }

    /// Waits for one message's turn, first come, first served. Cancellation: a future that is dropped takes no turn.
    pub(crate) async fn take(&self) {
        let _first = self.line.lock().await;
        while let Err(again) = self.try_take() {
            clock::sleep_until(again).await;
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").finish_non_exhaustive()
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let limit = RateLimit::per_second(10, 5);
        let start = Instant::now();
        for _ in 0..5 {
            limit.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(!limit.take_now());
        for _ in 0..20 {
            limit.take().await;
        }
        let took = start.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_millis(2100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_goes_first_and_who_gives_up_holds_up_nobody() {
        let limit = RateLimit::per_minute(60, 1);
        limit.take().await;
        let (gone, mut first, mut second) = (Box::pin(limit.take()), Box::pin(limit.take()), Box::pin(limit.take()));
        let mut gone = gone;
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(gone);
        tokio::select! {
            biased;
            () = second.as_mut() => panic!("out of turn"),
            () = first.as_mut() => {}
        }
        assert!(!limit.take_now(), "somebody waits in line");
        second.await;
    }

    #[test]
    fn limits_that_make_no_sense_are_the_least_that_does() {
        for limit in [RateLimit::per_second(0, 0), RateLimit::per_second(u32::MAX, u32::MAX)] {
            assert!(limit.try_take().is_ok());
        }
    }
}
