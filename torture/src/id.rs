//! The id of a message. It contains everything the model must know about the message before it is published.

use std::{fmt, str::FromStr};

/// A queue and its kind of consumer, which determine the promises for its messages.
///
/// A new kind of consumer is a new variant. It gets a queue of this name, its rules in [`Model`](crate::model::Model),
/// its acts in [`Script`](crate::script::Script) and its settings in [`workload`](crate::workload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// At least once, with handlers that do everything.
    Wild,
    /// At least once and in order: a single active consumer, one instance, one message at a time. Its handlers never
    /// fail.
    Order,
    /// Effectively once.
    Once,
    /// At most once.
    Most,
    /// At least once, with handlers that receive whole batches.
    Bulk,
    /// At least once, messages of two types, each with a handler of its own. The parity of a message's number
    /// determines its [type](Id::body_type).
    Both,
    /// At least once, from a stream whose reader keeps its offset on disk.
    Story,
}

/// The type in which a message is published. Both have the same bytes on the wire, so a message that a consumer gives
/// to the handler of the other type is readable all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    /// `String`.
    Text,
    /// `Vec<u8>`.
    Bytes,
}

/// The reader of the stream.
pub const READER: &str = "reader";

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 7] = [Self::Wild, Self::Order, Self::Once, Self::Most, Self::Bulk, Self::Both, Self::Story];

    /// The queue's name.
    pub fn queue(self) -> &'static str {
        match self {
            Self::Wild => "wild",
            Self::Order => "order",
            Self::Once => "once",
            Self::Most => "most",
            Self::Bulk => "bulk",
            Self::Both => "both",
            Self::Story => "story",
        }
    }

    /// The queue of its dead letters.
    pub fn dead_letters(self) -> String {
        match self {
            Self::Story => format!("{}.{READER}.dead", self.queue()),
            _ => format!("{}.dead", self.queue()),
        }
    }

    /// Whether strangers publish to it. Their messages have one type, and some have none; and a stream drops some of
    /// their headers.
    pub fn has_strangers(self) -> bool {
        !matches!(self, Self::Both | Self::Story)
    }

    /// Whether every accepted message must be handled or dead-lettered.
    pub fn loses_nothing(self) -> bool {
        self != Self::Most
    }
}

/// The id of a message: `wild.s0p1.17` is the 18th message that publisher `s0p1` sent to the queue `wild`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The lane of its queue.
    pub lane: Lane,
    /// Its publisher, in one life of one process.
    pub source: String,
    /// Its number among the messages of its publisher, from 0.
    pub number: u64,
}

/// First letter of publishers that publish after the storm, when nothing may go wrong any more.
pub const CALM: char = 'z';

/// First letter of publishers that publish last, one of them the message that kills its process.
pub const DEADLY: char = 'x';

/// First letter of the process that comes and goes in a storm.
pub const VISITOR: char = 'v';

/// First letter, or first after one of the above, of strangers, whose messages are foreign.
pub const FOREIGN: char = 'f';

/// The publisher of the poison message, and its number.
const POISON: (&str, u64) = ("x0p1", 5);

impl Id {
    /// The type in which it is published.
    pub fn body_type(&self) -> BodyType {
        match self.lane {
            Lane::Both if !self.number.is_multiple_of(2) => BodyType::Bytes,
            _ => BodyType::Text,
        }
    }

    /// Whether the message kills the process of its handler each time.
    pub fn is_poison(&self) -> bool {
        self.lane == Lane::Wild && (self.source.as_str(), self.number) == POISON
    }

    /// Whether it was published when poison was the only fault.
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
