//! The settings of a consumer from a file or the environment.

use std::{collections::BTreeMap, marker::PhantomData};

use crate::{
    base::written::{
        BackoffWritten, Choice, Flag, IntensityWritten, LimitsWritten, Size, Span, Switchable, Whole, Word, Written, or,
    },
    consume::spec::{consume::Consume, guarantee::Guarantee, retry::RetrySettings, threads::Threads},
    flow::{
        breaker::{CircuitBreaker, KillSwitch},
        flow_written::RateLimitWritten,
    },
};

/// The settings of a [`Consume`] from a file or the environment, by serde: [`Consume::settings`].
///
/// A key has the name of its setter:
///
/// | key | value |
/// |---|---|
/// | `prefetch` | a whole number from 1 to 65,535 |
/// | `instances`, `lanes`, `concurrency` | a whole number of at least 1 |
/// | `guarantee` | `"at-least-once"`, `"at-most-once"` |
/// | `retry` | `attempts`, `first`, `factor`, `max_delay`, `jitter`, `in_process_below`: [`Retry`](crate::Retry) |
/// | `delivery_limit` | a whole number of at least 2 |
/// | `retry_requests`, `blocking`, `exclusive`, `skip_other_types` | `true`, `false` |
/// | `confirm_timeout`, `handler_timeout`, `give_back_after`, `consumer_timeout` | 1 ms to 365 d |
/// | `handler_backoff` | a [backoff](#backoff) |
/// | `handler_intensity` | `"unlimited"`, or `{ max_restarts = 3, within = "5s" }` |
/// | `priority` | a whole number |
/// | `max_bytes_in_flight` | a size |
/// | `rate_limit` | `false`, or `{ per_second = 500, burst = 50 }`; also `per_minute`; `burst` is 1 by default |
/// | `circuit_breaker` | `false`, or a [breaker](#circuit-breaker) |
/// | `kill_switch` | `false`, or `{ ratio = 0.5, window = { last = 100, within = "60s" }, restart_after = "10m" }` |
/// | `dead_letter_queue` | text |
/// | `type_aliases` | pairs of alias and type: [`Consume::type_alias`] |
/// | `limits` | `encoded`, `decompressed`, `ratio`, `batch_items`: [`Limits`](fluffle_wire::Limits) |
///
/// The queue is not among them, because the topology has the same name: if it is to be set, have a field for it in your
/// own settings. Keys, stores, stream readers, middleware and codecs are code.
///
/// ```
/// use fluffle_amqp::{Consume, ConsumeSettings};
///
/// let settings: ConsumeSettings = toml::from_str(r#"
///     prefetch = 256
///     handler_timeout = "2m"
///     max_bytes_in_flight = "32MiB"
///     retry = { attempts = 3, first = "500ms" }
///     kill_switch = false
/// "#)?;
/// let consume = Consume::<String>::queue("alerts").instances(2).settings(&settings);
///
/// let error = toml::from_str::<ConsumeSettings>("prefetch = 0").unwrap_err();
/// assert_eq!(error.message(), "invalid value: integer `0`, expected a whole number from 1 to 65535");
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// # What overrides what
///
/// [`settings`](Consume::settings) overrides what the settings name, and nothing else. What stands before it in the
/// code is a default. What stands after it cannot be changed by a file. In a table such as `retry` or `limits`, a key
/// that is left out keeps what the code says too. `rate_limit`, `circuit_breaker`, `kill_switch`, a backoff and an
/// intensity are set as a whole.
///
/// Of several sources, such as a file and the environment, the library that reads them decides: the example
/// `12_settings` does it with the crate `config`.
///
/// # How values are written
///
/// Durations are text with a unit: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`. Sizes are bytes, or text in `KiB`, `MiB`
/// or `GiB`. Numbers and flags may be text too, because an environment variable is nothing else.
///
/// A key that is not known is refused, with a list of those that are. A value out of its limits is refused too, where
/// the setter in code would take the nearest one that works. Settings that contradict one another are refused at the
/// start, as in code.
///
/// # Backoff
///
/// `"none"`, or `{ min = "100ms", max = "10s" }`, with `factor` (2), `reset_after` (10 s) and `first_at_once` (false)
/// if wanted: [`Backoff`](fluffle_supervise::Backoff).
///
/// # Circuit breaker
///
/// `{ name = "payments" }`, with `ratio`, `window = { last = 20, within = "60s", at_least = 10 }`, `open_for` (a
/// backoff), `probes` and `count_rejections` if wanted: [`CircuitBreaker`]. Each consumer that is given these settings
/// has a breaker, and a rate limit, with a state of its own. To share one, have a field of the type [`CircuitBreaker`]
/// or [`RateLimit`](crate::RateLimit) in your own settings, and give clones to [`Consume::circuit_breaker`] or
/// [`Consume::rate_limit`].
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with the settings of a consumer")]
pub struct ConsumeSettings {
    prefetch: Option<Whole<u16, 1, 65_535>>,
    instances: Option<Whole<usize, 1>>,
    lanes: Option<Whole<usize, 1>>,
    concurrency: Option<Whole<usize, 1>>,
    guarantee: Option<Word<Guarantee>>,
    retry: Option<RetrySettings>,
    delivery_limit: Option<Whole<u32, 2>>,
    retry_requests: Option<Flag>,
    confirm_timeout: Option<Span<1>>,
    handler_timeout: Option<Span<1>>,
    give_back_after: Option<Span<1>>,
    consumer_timeout: Option<Span<1>>,
    handler_backoff: Option<BackoffWritten>,
    handler_intensity: Option<IntensityWritten>,
    blocking: Option<Flag>,
    exclusive: Option<Flag>,
    priority: Option<Whole<i32, { i32::MIN as i64 }, { i32::MAX as i64 }>>,
    max_bytes_in_flight: Option<Size>,
    rate_limit: Option<Switchable<RateLimitWritten>>,
    circuit_breaker: Option<Switchable<CircuitBreaker>>,
    kill_switch: Option<Switchable<KillSwitch>>,
    dead_letter_queue: Option<String>,
    skip_other_types: Option<Flag>,
    type_aliases: Option<BTreeMap<String, String>>,
    limits: Option<LimitsWritten>,
}

impl Choice for Guarantee {
    const WORDS: &'static [(&'static str, Self)] =
        &[("at-least-once", Self::AtLeastOnce), ("at-most-once", Self::AtMostOnce)];
}

impl<T, R> Consume<T, R> {
    /// Overrides what the settings name, and leaves the rest as the code says. A setter that is called afterwards
    /// overrides the settings.
    ///
    /// ```
    /// use fluffle_amqp::{Consume, ConsumeSettings};
    ///
    /// let settings: ConsumeSettings = toml::from_str("prefetch = 500")?;
    /// let consume: Consume<String> = Consume::queue("alerts")
    ///     .prefetch(64)               // unless the settings say something else
    ///     .settings(&settings)
    ///     .exclusive();               // whatever the settings say
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    #[must_use]
    pub fn settings(mut self, settings: &ConsumeSettings) -> Self {
        // Neither side with `..`: a setting that nothing reads does not compile, nor does a knob without a setting.
        let ConsumeSettings {
            prefetch,
            instances,
            lanes,
            concurrency,
            guarantee,
            retry,
            delivery_limit,
            retry_requests,
            confirm_timeout,
            handler_timeout,
            give_back_after,
            consumer_timeout,
            handler_backoff,
            handler_intensity,
            blocking,
            exclusive,
            priority,
            max_bytes_in_flight,
            rate_limit,
            circuit_breaker,
            kill_switch,
            dead_letter_queue,
            skip_other_types,
            type_aliases,
            limits,
        } = settings.clone();
        let guarantee = guarantee.map(Written::value);
        for (alias, type_name) in type_aliases.into_iter().flatten() {
            self = self.type_alias(alias, type_name);
        }
        if let Some(limits) = limits {
            let code = *self.wire.bounds();
            self = self.limits(limits.over(code));
        }
        Self {
            // The topology has the same name.
            queue: self.queue,
            prefetch: or(prefetch, self.prefetch),
            instances: instances.map(Written::value).or(self.instances),
            lanes: or(lanes, self.lanes),
            concurrency: concurrency.map(Written::value).or(self.concurrency),
            guarantee: guarantee.unwrap_or(self.guarantee),
            retry: match retry {
                Some(retry) => self.retry.settings(&retry),
                None => self.retry,
            },
            delivery_limit: delivery_limit.map(Written::value).or(self.delivery_limit),
            retry_requests: or(retry_requests, self.retry_requests),
            confirm_timeout: or(confirm_timeout, self.confirm_timeout),
            handler_timeout: or(handler_timeout, self.handler_timeout),
            give_back_after: give_back_after.map(Written::value).or(self.give_back_after),
            consumer_timeout: consumer_timeout.map(Written::value).or(self.consumer_timeout),
            handler_backoff: or(handler_backoff, self.handler_backoff),
            handler_intensity: or(handler_intensity, self.handler_intensity),
            threads: match blocking.map(Written::value) {
                Some(true) => Threads::Own,
                Some(false) if self.threads == Threads::Own => Threads::Shared,
                _ => self.threads,
            },
            exclusive: or(exclusive, self.exclusive),
            priority: priority.map(Written::value).or(self.priority),
            max_bytes: or(max_bytes_in_flight, self.max_bytes),
            rate_limit: Switchable::over(rate_limit, self.rate_limit, |limit, _| limit.value()),
            circuit_breaker: Switchable::over(circuit_breaker, self.circuit_breaker, |breaker, _| breaker.renewed()),
            kill_switch: Switchable::over(kill_switch, self.kill_switch, |switch, _| switch),
            dead_letter_queue: dead_letter_queue.or(self.dead_letter_queue),
            // As the setter does. Effectively once is at least once, so that leaves the store.
            seen: self.seen.filter(|_| guarantee != Some(Guarantee::AtMostOnce)),
            skips_other_types: or(skip_other_types, self.skips_other_types),
            // Code: a key, a store, middleware and codecs are no data.
            key: self.key,
            stream: self.stream,
            middleware: self.middleware,
            aliased: self.aliased,
            wire: self.wire,
            reply: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests;
