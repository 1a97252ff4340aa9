//! What passes between a relay and the statements of each database: rows that are claimed, and what became of them.

use std::time::Duration;

use crate::outcome::Outcome;

/// How long a claimed row is the relay's alone. Longer than a publish (30 s) and the mark after it can take.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Most published rows deleted at a time: a longer statement would hold up others.
pub(crate) const PRUNED: i64 = 1000;

/// Which rows a relay takes.
pub(crate) struct Claim<'a> {
    /// Who takes them. What is its own already it may take again.
    pub(crate) relay: &'a str,
    pub(crate) rows: i64,
    /// Most bytes together, but for one row there is always room.
    pub(crate) bytes: i64,
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

/// What is to be written about a batch.
#[derive(Default)]
pub(crate) struct Books<'a> {
    pub(crate) published: Vec<i64>,
    pub(crate) again: Vec<i64>,
    /// Id, attempts, error, and the wait until the next; without one it is parked.
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
