//! The id of a message, which says all that the model must know of it before it is published.

use std::{fmt, str::FromStr};

/// A queue and the kind of consumer on it: what is promised of its messages.
///
/// A new kind of consumer is a new variant: it gets a queue of this name, its rules in
/// [`Model`](crate::model::Model), its acts in [`Script`](crate::script::Script) and its terms in
/// [`workload`](crate::workload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// At least once, by handlers that do all that handlers do.
    Wild,
    /// At least once and in order: one active consumer, one instance, one message at a time, that never fails.
    Order,
    /// Effectively once.
    Once,
    /// At most once.
    Most,
    /// At least once, by handlers that are given batches at once.
    Bulk,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Wild, Self::Order, Self::Once, Self::Most, Self::Bulk];

    /// The queue's name.
    pub fn queue(self) -> &'static str {
        match self {
            Self::Wild => "wild",
            Self::Order => "order",
            Self::Once => "once",
            Self::Most => "most",
            Self::Bulk => "bulk",
        }
    }

    /// Whether what is accepted must be handled or dead-lettered.
    pub fn loses_nothing(self) -> bool {
        self != Self::Most
    }
}

/// Which message: `wild.s0p1.17` is the 18th that publisher `s0p1` sent to the queue `wild`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Where it goes.
    pub lane: Lane,
    /// Its publisher: one life of one publisher of one process.
    pub source: String,
    /// Its place among the messages of its publisher, from 0.
    pub number: u64,
}

/// Publishers whose names begin so publish after the storm, when nothing may go wrong any more.
pub const CALM: char = 'z';

/// Publishers whose names begin so publish last of all, one of them the message that kills its process.
pub const DEADLY: char = 'x';

/// Publishers whose names begin so, or so after one of the above, are strangers: their messages are foreign.
pub const FOREIGN: char = 'f';

/// Which one kills, and with which of its messages.
const POISON: (&str, u64) = ("x0p1", 5);

impl Id {
    /// Whether it kills the process of its handler, each time.
    pub fn is_poison(&self) -> bool {
        self.lane == Lane::Wild && (self.source.as_str(), self.number) == POISON
    }

    /// Whether nothing but poison was about when it was published.
    pub fn is_beside_poison(&self) -> bool {
        self.source.starts_with(DEADLY) && !self.is_poison()
    }

    /// Whether a stranger published it.
    pub fn is_foreign(&self) -> bool {
        self.source.trim_start_matches([CALM, DEADLY]).starts_with(FOREIGN)
    }

    /// Whether it was published after the storm.
    pub fn is_calm(&self) -> bool {
        self.source.starts_with(CALM)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.lane.queue(), self.source, self.number)
    }
}

/// A text that is no id of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct NoId(String);

impl fmt::Display for NoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no id: it should look like wild.s0p1.17", self.0)
    }
}

impl std::error::Error for NoId {}

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let wrong = || NoId(text.to_owned());
        let mut parts = text.split('.');
        let (Some(queue), Some(source), Some(number), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let lane = Lane::ALL.into_iter().find(|lane| lane.queue() == queue).ok_or_else(wrong)?;
        Ok(Self { lane, source: source.to_owned(), number: number.parse().map_err(|_| wrong())? })
    }
}
