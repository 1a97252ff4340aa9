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
    /// The handler said that it can never be handled: `rejected`.
    Rejected,
    /// It failed on its last allowed attempt: `attempts-exhausted`.
    AttemptsExhausted,
    /// The body or its labels are wrong: `undecodable`.
    Undecodable,
    /// Another program's word, at most 64 bytes of it.
    Other(String),
}

impl Reason {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rejected => "rejected",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::Undecodable => "undecodable",
            Self::Other(word) => word,
        }
    }

    /// The reason a word on the wire stands for.
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

/// Where a message came from, and when: kept through all its retry copies, whose own route is the retry queue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The exchange it was first published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key it was first published with.
    pub key: String,
    /// The queue it was consumed from.
    pub queue: String,
    /// When it was first delivered, to the millisecond.
    pub first_seen: SystemTime,
}

impl Origin {
    /// Reads the headers of a retry copy or dead letter.
    ///
    /// `None` if any of the four is missing or makes no sense: the message is then its own origin. Names are cut at
    /// the 255 bytes AMQP allows them.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Option<Self> {
        let name = |name| Some(bounded(header(name)?.as_str()?, 255).into_owned());
        Some(Self {
            exchange: name(ORIGIN_EXCHANGE)?,
            key: name(ORIGIN_KEY)?,
            queue: name(ORIGIN_QUEUE)?,
            first_seen: from_millis(header(FIRST_SEEN)?.as_int()?)?,
        })
    }

    /// The headers that say so.
    pub fn headers(&self) -> [(&'static str, HeaderValue<'_>); 4] {
        [
            (ORIGIN_EXCHANGE, HeaderValue::Str(&self.exchange)),
            (ORIGIN_KEY, HeaderValue::Str(&self.key)),
            (ORIGIN_QUEUE, HeaderValue::Str(&self.queue)),
            (FIRST_SEEN, HeaderValue::Int(to_millis(self.first_seen))),
        ]
    }
}

/// What a dead letter tells about itself.
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
    /// Why it was given up.
    pub reason: Reason,
    /// The last error with its causes; at most [`DeadLetterInfo::ERROR_BYTES`] of it travel.
    pub error: String,
    /// How often it was tried.
    pub attempts: Attempt,
    /// Where it came from.
    pub origin: Origin,
}

impl DeadLetterInfo {
    /// How much of an error travels: 2 KiB. All headers of a message must fit into one AMQP frame.
    pub const ERROR_BYTES: usize = 2048;

    /// Reads the headers; `None` if this is no dead letter of Fluffle's (no reason, or no origin).
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Option<Self> {
        let error = header(ERROR).and_then(|value| value.as_str()).unwrap_or_default();
        Some(Self {
            reason: Reason::parse(header(REASON)?.as_str()?),
            error: bounded(error, Self::ERROR_BYTES).into_owned(),
            attempts: Attempt::number(header(ATTEMPT)),
            origin: Origin::read(&header)?,
        })
    }

    /// The headers that say so. An error longer than [`DeadLetterInfo::ERROR_BYTES`] is cut.
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
/// A cause whose text its error already ends with is not said twice.
pub fn error_chain(error: &dyn Error) -> String {
    /// Errors that name each other in a circle end here.
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

fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}
