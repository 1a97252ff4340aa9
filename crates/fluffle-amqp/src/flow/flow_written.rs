//! Rate limits, circuit breakers and kill switches as a file or the environment writes them.

use serde::de::{Deserialize, Deserializer};

use crate::{
    base::written::{BackoffWritten, Flag, Real, Span, Whole, Written, made_from, or},
    flow::{
        breaker::{CircuitBreaker, KillSwitch},
        rate::RateLimit,
        switch::{RatioError, Window},
    },
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with per_second or per_minute, and burst")]
struct RateLimitFields {
    per_second: Option<Whole<u32, 1>>,
    per_minute: Option<Whole<u32, 1>>,
    burst: Option<Whole<u32, 1>>,
}

/// A [`RateLimit`] as data: each use of it makes a limit with a state of its own.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "RateLimitFields")]
pub(crate) struct RateLimitWritten {
    per: fn(u32, u32) -> RateLimit,
    count: u32,
    burst: u32,
}

impl TryFrom<RateLimitFields> for RateLimitWritten {
    type Error = &'static str;

    fn try_from(RateLimitFields { per_second, per_minute, burst }: RateLimitFields) -> Result<Self, Self::Error> {
        let burst = or(burst, 1);
        match (per_second, per_minute) {
            (Some(count), None) => Ok(Self { per: RateLimit::per_second, count: count.value(), burst }),
            (None, Some(count)) => Ok(Self { per: RateLimit::per_minute, count: count.value(), burst }),
            _ => Err("a rate limit has either `per_second` or `per_minute`"),
        }
    }
}

impl Written for RateLimitWritten {
    type Value = RateLimit;

    fn value(self) -> RateLimit {
        (self.per)(self.count, self.burst)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with last, within, at_least")]
struct WindowFields {
    last: Whole<usize, 1, 10_000>,
    within: Option<Span>,
    at_least: Option<Whole<usize, 1, 10_000>>,
}

impl TryFrom<WindowFields> for Window {
    type Error = String;

    fn try_from(WindowFields { last, within, at_least }: WindowFields) -> Result<Self, String> {
        let last = last.value();
        let mut window = Self::last(last);
        if let Some(age) = within {
            window = window.within(age.value());
        }
        match at_least.map(Written::value) {
            None => Ok(window),
            Some(outcomes) if outcomes <= last => Ok(window.at_least(outcomes)),
            Some(outcomes) => Err(format!("at_least = {outcomes} never comes true, because last = {last}")),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with name, ratio, window, open_for, …")]
struct CircuitBreakerFields {
    name: String,
    ratio: Option<Real>,
    window: Option<Window>,
    open_for: Option<BackoffWritten>,
    probes: Option<Whole<u16, 1, 65_535>>,
    count_rejections: Option<Flag>,
}

impl TryFrom<CircuitBreakerFields> for CircuitBreaker {
    type Error = RatioError;

    fn try_from(fields: CircuitBreakerFields) -> Result<Self, RatioError> {
        // Without `..`: a field that nothing reads does not compile.
        let CircuitBreakerFields { name, ratio, window, open_for, probes, count_rejections } = fields;
        let mut breaker = Self::new(name);
        if let Some(Real(ratio)) = ratio {
            breaker = breaker.ratio(ratio)?;
        }
        if let Some(window) = window {
            breaker = breaker.window(window);
        }
        if let Some(waits) = open_for {
            breaker = breaker.open_for(waits.value());
        }
        if let Some(count) = probes {
            breaker = breaker.probes(count.value());
        }
        Ok(if or(count_rejections, false) { breaker.count_rejections() } else { breaker })
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with ratio, window, restart_after")]
struct KillSwitchFields {
    ratio: Real,
    window: Window,
    restart_after: Option<Span<1>>,
}

impl TryFrom<KillSwitchFields> for KillSwitch {
    type Error = RatioError;

    fn try_from(fields: KillSwitchFields) -> Result<Self, RatioError> {
        let KillSwitchFields { ratio: Real(ratio), window, restart_after } = fields;
        let switch = Self::new(ratio, window)?;
        Ok(match restart_after {
            Some(wait) => switch.restart_after(wait.value()),
            None => switch,
        })
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RateLimitWritten::deserialize(deserializer).map(Written::value)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        made_from::<WindowFields, _, _>(deserializer)
    }
}

impl<'de> Deserialize<'de> for CircuitBreaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        made_from::<CircuitBreakerFields, _, _>(deserializer)
    }
}

impl<'de> Deserialize<'de> for KillSwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        made_from::<KillSwitchFields, _, _>(deserializer)
    }
}
