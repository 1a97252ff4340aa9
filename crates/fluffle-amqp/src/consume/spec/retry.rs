//! How often a failed message is tried again, and after which waits.

use std::time::Duration;

use crate::base::written::{Real, Span, Whole, Written, or};

/// How often a message is handed to its handler, and the waits between the attempts.
///
/// For each wait there is a queue, `<queue>.retry.<milliseconds>`. A message waits in it until its time to live ends
/// and the broker moves it back. There is one queue for each wait, because RabbitMQ expires messages only at the head
/// of a queue (RabbitMQ, "Time-To-Live and Expiration"). Waiting messages use no memory of this process, survive its
/// crash, and delay no other message. After the last attempt a message goes to the dead-letter queue.
///
/// Default: 5 attempts, with waits of 1 s, 5 s, 25 s and 125 s. Each wait is randomly up to a tenth shorter, so that
/// messages that failed together do not come back together ([`jitter`](Retry::jitter)).
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::Retry;
///
/// let retry = Retry::exponential(4, Duration::from_millis(200), 10.0)?.max_delay(Duration::from_secs(10));
/// assert_eq!(retry.delays(), [200, 2_000, 10_000].map(Duration::from_millis));
/// # Ok::<(), fluffle_amqp::RetryError>(())
/// ```
///
/// With serde, from a file: `attempts`, `first`, `factor`, `max_delay`, `jitter` and `in_process_below`, within the
/// same limits. What is left out has its default.
///
/// ```
/// # use std::time::Duration;
/// # use fluffle_amqp::Retry;
/// let retry: Retry = toml::from_str("attempts = 4\nfirst = '200ms'\nfactor = 10\nmax_delay = '10s'")?;
/// assert_eq!(retry.delays(), [200, 2_000, 10_000].map(Duration::from_millis));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "RetryFields")]
pub struct Retry {
    attempts: u32,
    first: Duration,
    factor: f64,
    max_delay: Duration,
    /// The waits that result from the four fields above.
    delays: Vec<Duration>,
    jitter: f64,
    in_process_below: Duration,
}

/// The settings of a [`Retry`] as a file or the environment names them.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with attempts, first, factor, max_delay, …")]
pub(crate) struct RetryFields {
    attempts: Option<Whole<u32, 0>>,
    first: Option<Span>,
    factor: Option<Real>,
    max_delay: Option<Span<1>>,
    jitter: Option<Real>,
    in_process_below: Option<Span>,
}

/// [`RetryFields`] within the limits of a [`Retry`].
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "RetryFields")]
pub(crate) struct RetrySettings(RetryFields);

impl TryFrom<RetryFields> for RetrySettings {
    type Error = RetryError;

    fn try_from(fields: RetryFields) -> Result<Self, RetryError> {
        // Each limit is one of a single field. So what goes with the default goes with any policy of the code.
        Retry::default().with(fields).map(|_| Self(fields))
    }
}

impl TryFrom<RetryFields> for Retry {
    type Error = RetryError;

    fn try_from(fields: RetryFields) -> Result<Self, RetryError> {
        Self::default().with(fields)
    }
}

/// Why a retry policy cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retry policy: {0}")]
pub struct RetryError(String);

/// The default jitter: by which part a wait may be shorter.
const JITTER: f64 = 0.1;

/// The longest wait in this process. A message that waits here takes up a place in the prefetch, and the count of its
/// attempt is lost if the process dies.
const LONGEST_IN_PROCESS: Duration = Duration::from_secs(10);

/// The most attempts. A policy with more would be a loop.
const MAX_ATTEMPTS: u32 = 100;

/// The longest wait: a week. RabbitMQ accepts a time to live of up to 2^32 - 1 milliseconds, about seven weeks.
const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

impl Retry {
    /// One attempt only: a message that fails becomes a dead letter.
    pub fn none() -> Self {
        Self { attempts: 1, delays: Vec::new(), ..Self::default() }
    }

    /// `attempts` in all, including the first. The waits are `first`, `first × factor`, `first × factor²`, …, at most 7
    /// days each.
    ///
    /// # Errors
    /// When `attempts` is 0 or above 100, `first` is under 1 ms or over a week, or `factor` is under 1 or not finite.
    pub fn exponential(attempts: u32, first: Duration, factor: f64) -> Result<Self, RetryError> {
        Ok(Self::default().attempts_of(attempts)?.first_of(first)?.factor_of(factor)?.replanned())
    }

    fn attempts_of(self, attempts: u32) -> Result<Self, RetryError> {
        if attempts == 0 || attempts > MAX_ATTEMPTS {
            return Err(RetryError(format!(
                "attempts = {attempts}, must be 1 to {MAX_ATTEMPTS} (the first one counts)"
            )));
        }
        Ok(Self { attempts, ..self })
    }

    fn first_of(self, first: Duration) -> Result<Self, RetryError> {
        if first < Duration::from_millis(1) || first > MAX_DELAY {
            return Err(RetryError(format!("first delay = {first:?}, must be 1 ms to 7 days")));
        }
        Ok(Self { first, ..self })
    }

    fn factor_of(self, factor: f64) -> Result<Self, RetryError> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(RetryError(format!("factor = {factor}, must be at least 1, because waits do not shrink")));
        }
        Ok(Self { factor, ..self })
    }

    /// With the delays that attempts, first delay, factor and longest delay amount to.
    fn replanned(self) -> Self {
        let mut delay = self.first;
        let mut delays = Vec::new();
        for _ in 1..self.attempts {
            delays.push(delay.min(self.max_delay));
            let next = delay.as_secs_f64() * self.factor;
            delay = if next > MAX_DELAY.as_secs_f64() { MAX_DELAY } else { whole_milliseconds(next) };
        }
        Self { delays, ..self }
    }

    /// Limits every wait to `max`, which is at least 1 ms.
    #[must_use]
    pub fn max_delay(self, max: Duration) -> Self {
        Self { max_delay: max.max(Duration::from_millis(1)), ..self }.replanned()
    }

    /// By which part, from 0 to 0.5, a wait may be shorter. The actual wait is random for each message. Default 0.1.
    ///
    /// # Errors
    /// When `part` is not in that range. With more jitter, messages would wait longer for others in front of them,
    /// because a queue expires its messages in order.
    pub fn jitter(mut self, part: f64) -> Result<Self, RetryError> {
        if !(0.0..=0.5).contains(&part) {
            return Err(RetryError(format!("jitter = {part}, must be 0 to 0.5")));
        }
        self.jitter = part;
        Ok(self)
    }

    /// During a wait shorter than this, the message stays in this process, unacked, and no copy is made. Default 0: all
    /// messages wait in the retry queues. At most 10 s, because the message takes up a place in the prefetch meanwhile.
    ///
    /// The number of such an attempt is stored nowhere. If the process dies, the message comes again with the attempt
    /// number of its last copy.
    ///
    /// # Errors
    /// When `wait` is more than 10 s.
    pub fn in_process_below(mut self, wait: Duration) -> Result<Self, RetryError> {
        if wait > LONGEST_IN_PROCESS {
            return Err(RetryError(format!("in_process_below = {wait:?}, must be at most {LONGEST_IN_PROCESS:?}")));
        }
        self.in_process_below = wait;
        Ok(self)
    }

    /// This policy with what `fields` name.
    fn with(self, fields: RetryFields) -> Result<Self, RetryError> {
        // Without `..`: a field that nothing reads does not compile.
        let RetryFields { attempts, first, factor, max_delay, jitter, in_process_below } = fields;
        let retry = match attempts {
            Some(attempts) => self.attempts_of(attempts.value())?,
            None => self,
        };
        let max_delay = or(max_delay, retry.max_delay);
        let (first, factor) = (or(first, retry.first), factor.map_or(retry.factor, |Real(factor)| factor));
        let (jitter, below) =
            (jitter.map_or(retry.jitter, |Real(part)| part), or(in_process_below, retry.in_process_below));
        retry.first_of(first)?.factor_of(factor)?.max_delay(max_delay).jitter(jitter)?.in_process_below(below)
    }

    /// This policy with what the settings name.
    pub(crate) fn settings(self, settings: &RetrySettings) -> Self {
        self.clone().with(settings.0).unwrap_or(self)
    }

    /// Whether a message with this wait stays in this process.
    pub(crate) fn is_in_process(&self, delay: Duration) -> bool {
        delay < self.in_process_below
    }

    /// The wait with jitter, in whole milliseconds, at least 1 ms. It becomes the copy's time to live.
    pub(crate) fn jittered(&self, delay: Duration) -> Duration {
        if self.jitter == 0.0 {
            return delay;
        }
        whole_milliseconds(delay.as_secs_f64() * (1.0 - self.jitter * fastrand::f64())).max(Duration::from_millis(1))
    }

    /// How often a message is handed to its handler at most.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The waits after the first attempt, the second attempt and so on. There is none after the last attempt.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// The wait after failed attempt number `attempt`, from 1. If the handler wants to wait for `wanted`, it is the
    /// shortest of the policy's waits that is at least that long, or else the longest. `None` if there is no further
    /// attempt.
    pub(crate) fn delay_after(&self, attempt: u32, wanted: Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        match wanted {
            Some(wanted) => {
                self.delays.iter().copied().filter(|delay| *delay >= wanted).min().or(self.delays.iter().copied().max())
            }
            None => self.delays.get(attempt.saturating_sub(1) as usize).copied(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let retry = Self {
            attempts: 5,
            first: Duration::from_secs(1),
            factor: 5.0,
            max_delay: MAX_DELAY,
            delays: Vec::new(),
            jitter: JITTER,
            in_process_below: Duration::ZERO,
        };
        retry.replanned()
    }
}

fn whole_milliseconds(seconds: f64) -> Duration {
    let delay = Duration::from_secs_f64(seconds);
    Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_has_no_wait_after_it() {
        let retry = Retry::default();
        assert_eq!(retry.delay_after(1, None), Some(Duration::from_secs(1)));
        assert_eq!(retry.delay_after(4, None), Some(Duration::from_secs(125)));
        assert_eq!(retry.delay_after(5, None), None);
        assert_eq!(Retry::none().delay_after(1, None), None);
    }

    #[test]
    fn a_wanted_wait_takes_the_next_longer_class_or_the_longest() {
        let retry = Retry::default();
        let wanted = |seconds| retry.delay_after(1, Some(Duration::from_secs(seconds)));
        assert_eq!(wanted(3), Some(Duration::from_secs(5)));
        assert_eq!(wanted(5), Some(Duration::from_secs(5)));
        assert_eq!(wanted(3600), Some(Duration::from_secs(125)));
        assert_eq!(retry.delay_after(5, Some(Duration::from_secs(1))), None);
    }

    #[test]
    fn a_jittered_wait_is_up_to_that_part_shorter_and_never_longer() {
        let (retry, second) = (Retry::default().jitter(0.5).unwrap(), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..200).map(|_| retry.jittered(second)).collect();
        assert!(waits.iter().all(|wait| (second / 2..=second).contains(wait)));
        assert!(waits.iter().max() > waits.iter().min(), "the waits differ");
        assert_eq!(Retry::default().jitter(0.0).unwrap().jittered(second), second);
        assert!(Retry::default().jitter(0.6).unwrap_err().to_string().contains("0 to 0.5"));
    }

    #[test]
    fn a_policy_that_cannot_work_says_why() {
        let second = Duration::from_secs(1);
        for (result, hint) in [
            (Retry::exponential(0, second, 2.0), "the first one counts"),
            (Retry::exponential(3, Duration::ZERO, 2.0), "first delay"),
            (Retry::exponential(3, second, 0.5), "do not shrink"),
            (Retry::exponential(3, second, f64::NAN), "factor"),
        ] {
            assert!(result.unwrap_err().to_string().contains(hint));
        }
    }
}
