//! What passes between a relay and the statements of each database: claimed rows, and the outcomes of their messages.

use std::time::Duration;

use crate::outcome::Outcome;

/// How long a claimed row belongs to one relay. Longer than a publish (30 s) and the mark after it take, if the
/// database answers within seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// The most published rows deleted at a time, because a longer statement would hold up others.
pub(crate) const PRUNED: i64 = 1000;

/// How much a relay has in hand at most, or claims at a time. The bytes are those of the messages together; a larger
/// one is claimed if nothing else is in hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Limits {
    /// The limits of one claim: half, so that a relay can claim rows while it publishes others.
    pub(crate) fn half(self) -> Self {
        Self { rows: (self.rows / 2).max(1), bytes: self.bytes / 2 }
    }
}

/// A claim of rows: those that are due, and those that the relay has already, except those that it is publishing. It
/// has others if an earlier incarnation claimed them, or if the answer to a claim was lost.
pub(crate) struct Claim<'a> {
    /// The relay that claims.
    pub(crate) relay: &'a str,
    pub(crate) limits: Limits,
    /// Whether the first row is claimed even if it is larger than the limit.
    pub(crate) is_larger_allowed: bool,
    /// The rows that the relay is publishing.
    pub(crate) except: Vec<i64>,
}

impl Claim<'_> {
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limits.rows).unwrap_or(i64::MAX)
    }

    pub(crate) fn bytes(&self) -> i64 {
        i64::try_from(self.limits.bytes).unwrap_or(i64::MAX)
    }
}

/// A claimed row.
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) message: Vec<u8>,
    pub(crate) attempts: i32,
}

impl From<(i64, Vec<u8>, i32)> for Row {
    fn from((id, message, attempts): (i64, Vec<u8>, i32)) -> Self {
        Self { id, message, attempts }
    }
}

/// Outcomes, sorted for the queries.
#[derive(Default)]
pub(crate) struct Books<'a> {
    pub(crate) published: Vec<i64>,
    pub(crate) again: Vec<i64>,
    /// Id, attempts, error, and the wait until the next try. Without a wait the row is parked.
    pub(crate) refused: Vec<(i64, i32, &'a str, Option<Duration>)>,
}

impl<'a> Books<'a> {
    pub(crate) fn new(outcomes: &'a [(i64, Outcome)]) -> Self {
        let mut books = Self::default();
        for (id, outcome) in outcomes {
            let mut refused = |attempts: u32, error: &'a str, wait| {
                books.refused.push((*id, i32::try_from(attempts).unwrap_or(i32::MAX), error, wait));
            };
            match outcome {
                Outcome::Published => books.published.push(*id),
                Outcome::Again => books.again.push(*id),
                Outcome::Later { attempts, error, wait } => refused(*attempts, error, Some(*wait)),
                Outcome::Parked { attempts, error } => refused(*attempts, error, None),
            }
        }
        books
    }
}
