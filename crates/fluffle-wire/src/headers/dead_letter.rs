use std::error::Error;
use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{ATTEMPT, ERROR, FIRST_SEEN, HeaderValue, ORIGIN_EXCHANGE, ORIGIN_KEY, ORIGIN_QUEUE, REASON};
use crate::headers::Attempt;
use crate::text::{bounded, cut};

/// Why a message became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The handler said that the message can never be handled: `rejected`.
    Rejected,
    /// The last allowed attempt failed: `attempts-exhausted`.
    AttemptsExhausted,
    /// The body or its labels are wrong: `undecodable`.
    Undecodable,
    /// The reason that another program wrote, cut to at most 64 bytes.
    Other(String),
}

impl Reason {
    /// The reason as it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rejected => "rejected",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::Undecodable => "undecodable",
            Self::Other(word) => word,
        }
    }

    /// Reads a reason from the wire.
    pub fn parse(word: &str) -> Self {
        match word {
            "rejected" => Self::Rejected,
            "attempts-exhausted" => Self::AttemptsExhausted,
            "undecodable" => Self::Undecodable,
            other => Self::Other(bounded(other, 64).into_owned()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a message came from, and when. All retry copies carry it, because their own exchange and key are those of the
/// retry queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The exchange to which the message was first published. Empty for the default exchange.
    pub exchange: String,
    /// The routing key with which the message was first published.
    pub key: String,
    /// The queue from which the message was consumed.
    pub queue: String,
    /// When the message was first delivered, to the millisecond.
    pub first_seen: SystemTime,
}

impl Origin {
    /// Reads the headers of a retry copy or dead letter.
    ///
    /// `None` if any of the four headers is missing or invalid: the message is then its own origin. Names are cut to
    /// 255 bytes, the limit of AMQP.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Option<Self> {
        let name = |name| Some(bounded(header(name)?.as_str()?, 255).into_owned());
        Some(Self {
            exchange: name(ORIGIN_EXCHANGE)?,
            key: name(ORIGIN_KEY)?,
            queue: name(ORIGIN_QUEUE)?,
            first_seen: from_millis(header(FIRST_SEEN)?.as_int()?)?,
        })
    }

    /// The headers with this origin.
    pub fn headers(&self) -> [(&'static str, HeaderValue<'_>); 4] {
        [
            (ORIGIN_EXCHANGE, HeaderValue::Str(&self.exchange)),
            (ORIGIN_KEY, HeaderValue::Str(&self.key)),
            (ORIGIN_QUEUE, HeaderValue::Str(&self.queue)),
            (FIRST_SEEN, HeaderValue::Int(millis(self.first_seen))),
        ]
    }
}

/// What the headers of a dead letter say about it.
///
/// ```
/// use fluffle_wire::headers::{Attempt, DeadLetterInfo, Origin, Reason};
/// use std::{collections::HashMap, time::{Duration, UNIX_EPOCH}};
///
/// let info = DeadLetterInfo {
///     reason: Reason::AttemptsExhausted,
///     error: "database is away: connection refused".into(),
///     attempts: Attempt::new(5).unwrap(),
///     origin: Origin {
///         exchange: "quakes".into(),
///         key: "quake.major.us".into(),
///         queue: "alerts".into(),
///         first_seen: UNIX_EPOCH + Duration::from_millis(1_517_966_773_840),
///     },
/// };
/// let table: HashMap<_, _> = info.headers().into_iter().collect();
/// assert_eq!(DeadLetterInfo::read(|name| table.get(name).copied()), Some(info));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterInfo {
    /// Why the message became a dead letter.
    pub reason: Reason,
    /// The last error with its causes. At most [`DeadLetterInfo::ERROR_BYTES`] of it are sent.
    pub error: String,
    /// How many attempts were made.
    pub attempts: Attempt,
    /// Where the message came from.
    pub origin: Origin,
}

impl DeadLetterInfo {
    /// The most bytes of an error that are sent: 2 KiB. The limit exists because all headers of a message must fit into
    /// one AMQP frame.
    pub const ERROR_BYTES: usize = 2048;

    /// Reads the headers. `None` if the message is not a dead letter made by Fluffle (it has no reason, or no origin).
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Option<Self> {
        let error = header(ERROR).and_then(|value| value.as_str()).unwrap_or_default();
        Some(Self {
            reason: Reason::parse(header(REASON)?.as_str()?),
            error: bounded(error, Self::ERROR_BYTES).into_owned(),
            attempts: Attempt::number(header(ATTEMPT)),
            origin: Origin::read(&header)?,
        })
    }

    /// The headers with this information. An error longer than [`DeadLetterInfo::ERROR_BYTES`] is cut.
    pub fn headers(&self) -> [(&'static str, HeaderValue<'_>); 7] {
        let [exchange, key, queue, first_seen] = self.origin.headers();
        let error = cut(&self.error, Self::ERROR_BYTES);
        [
            (REASON, HeaderValue::Str(self.reason.as_str())),
            (ERROR, HeaderValue::Str(error)),
            self.attempts.header(),
            exchange,
            key,
            queue,
            first_seen,
        ]
    }
}

/// An error and its causes on one line, `what: why: why that`, of at most [`DeadLetterInfo::ERROR_BYTES`].
///
/// If an error's text already ends with the text of its cause, the cause is not repeated.
pub fn error_chain(error: &dyn Error) -> String {
    /// Ends the loop if errors name each other as source in a circle.
    const MOST_CAUSES: usize = 16;
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    for cause in causes.take(MOST_CAUSES) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {cause}");
        }
    }
    bounded(&text, DeadLetterInfo::ERROR_BYTES).into_owned()
}

/// Milliseconds from 1970-01-01 UTC to `time`, as headers have them. 0 for an earlier time.
pub fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}
