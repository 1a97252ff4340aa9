//! How a handler reports that it did not handle a message, and whether to retry or to dead-letter the message.

use std::{error::Error, fmt, time::Duration};

use fluffle_wire::headers::error_chain;

/// The reason why a handler did not handle a message; works like `anyhow::Error` with `?`.
///
/// - Any [`std::error::Error`] becomes a `Failure` by `?`: *transient*, retried after the consumer's backoff.
/// - [`Failure::reject`]: *permanent*, dead-lettered at once.
/// - [`Failure::retry`] with [`after`](Failure::after): transient, retried after a wait that you choose.
///
/// The text of the error and its sources is written into a header of the dead letter, at most 2 KiB of it.
///
/// `anyhow::Error` and `Box<dyn Error>` do not implement [`std::error::Error`], so `?` alone does not convert them:
/// write `.map_err(Failure::retry)?` or `.map_err(Failure::reject)?`. Their sources are kept.
///
/// ```
/// use anyhow::Context;
/// use fluffle_amqp::Failure;
///
/// fn load(path: &str) -> anyhow::Result<String> {
///     std::fs::read_to_string(path).context("no price list")
/// }
///
/// fn price() -> Result<u32, Failure> {
///     let list = load("/no/such/file").map_err(Failure::retry)?;
///     list.trim().parse::<u32>().context("not a price").map_err(Failure::reject)
/// }
/// assert!(price().unwrap_err().to_string().starts_with("no price list: No such file"));
/// ```
///
/// ```
/// use fluffle_amqp::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     let n: u32 = text.parse().map_err(Failure::reject)?; // it never parses: dead letter
///     std::fs::metadata("/")?;                             // it may exist later: retry
///     Ok(n)
/// }
/// assert!(parse("x").unwrap_err().is_permanent());
/// ```
pub struct Failure {
    permanent: bool,
    after: Option<Duration>,
    /// A middleware refused the message, and no handler was called.
    before_the_handler: bool,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A permanent failure: the message is dead-lettered without another attempt.
    pub fn reject(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { permanent: true, after: None, before_the_handler: false, error: error.into() }
    }

    /// A transient failure: the message is retried after the consumer's backoff.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { permanent: false, after: None, before_the_handler: false, error: error.into() }
    }

    /// Sets the wait before the next attempt. The wait is rounded up to the consumer's next delay class, or is its
    /// longest delay class if `wait` is longer; see [`Retry`](crate::Retry). On a rejection this has no effect.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.after = Some(wait);
        self
    }

    /// Whether the message is dead-lettered without another attempt.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The same failure, of a middleware that refused the message.
    pub(crate) fn before_the_handler(self) -> Self {
        Self { before_the_handler: true, ..self }
    }

    pub(crate) fn is_before_the_handler(&self) -> bool {
        self.before_the_handler
    }

    /// The wait before the next attempt, if the handler chose one.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.after
    }

    /// The texts of the error and its sources, outermost first, on one line of at most 2 KiB.
    pub(crate) fn chain(&self) -> String {
        error_chain(&*self.error)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.permanent { "reject" } else { "retry" };
        write!(f, "Failure::{kind}({})", self.chain())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}
