//! Faults: which may happen, when, and to whom. They are decided here, and carried out where the bytes and messages
//! pass.

mod control;
mod error;
mod event;
mod gate;
mod history;
mod place;
mod plan;
mod rule;
mod tally;
mod target;

use std::{fmt, time::Duration};

pub use self::{
    control::{FaultHandle, Faults},
    error::FaultError,
    event::Event,
    history::FiredFault,
    rule::Rule,
    target::Target,
};
pub(crate) use self::{
    control::{Request, Site, serve},
    event::Scene,
    gate::Gate,
    place::Place,
    plan::{Hit, Plan, Strike},
    tally::Cause,
    target::Chosen,
};

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client: the broker reads late, slowly or not at all.
    ToBroker,
    /// From the broker.
    ToClient,
    /// Both directions.
    Both,
}

impl Direction {
    pub(crate) fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// A kind of fault. [The table](crate#faults) lists the natural event of each, and what the client sees.
///
/// [`HalfOpen`](Self::HalfOpen), [`Delay`](Self::Delay), [`Slow`](Self::Slow), [`Stall`](Self::Stall) and
/// [`Block`](Self::Block) last; healing ends them early. The others happen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A new connection is closed before any data.
    Refuse,
    /// The connection stays, but no data comes back: bytes are discarded, heartbeats stop, and after two intervals the
    /// broker considers the client dead without telling it. When healed, the connection is reset, as by a peer that
    /// does not know it.
    HalfOpen,
    /// The socket is dropped without closing the connection.
    Cut,
    /// No bytes pass for a time; then everything goes on.
    Stall {
        /// The direction.
        direction: Direction,
        /// How long.
        time: Duration,
    },
    /// From now on, every read or write is delayed.
    Delay {
        /// The direction.
        direction: Direction,
        /// How long each read or write waits.
        time: Duration,
    },
    /// From now on, the rate of bytes is limited.
    Slow {
        /// The direction; with both, each direction has this rate.
        direction: Direction,
        /// Bytes a second, at least 1.
        bytes_per_second: u64,
    },
    /// A frame to the client ends with a wrong octet.
    CorruptFrame,
    /// The broker closes the connection.
    CloseConnection {
        /// The reply code, such as 320.
        code: u16,
        /// The reply text, cut to 255 bytes.
        text: String,
    },
    /// The broker closes the channel. Deliveries on it that were not acknowledged are ready again.
    CloseChannel {
        /// The reply code, such as 406.
        code: u16,
        /// The reply text, cut to 255 bytes.
        text: String,
    },
    /// The broker accepts the message, but never confirms it.
    DropConfirm,
    /// The broker accepts the message, but confirms it later.
    DelayConfirm {
        /// How much later.
        time: Duration,
    },
    /// The broker does not accept the message, and answers with `basic.nack`. Only on channels with confirms.
    Nack,
    /// The broker does not accept the message, and returns it with 312 NO_ROUTE before it is confirmed. Only for
    /// mandatory messages.
    Return,
    /// The consumer ends, as if its queue had been deleted. A client that supports it gets `basic.cancel`.
    CancelConsumer,
    /// An alarm, as if memory were low: each connection that publishes gets `connection.blocked`, if its client
    /// supports it, and is not read any more.
    Block {
        /// The reason for the client; RabbitMQ says "low on memory".
        reason: String,
        /// How long; [`Duration::MAX`] means until it is healed.
        time: Duration,
    },
    /// The broker stops as [`Broker::stop`](crate::Broker::stop) does, and starts again.
    Restart {
        /// How long the broker is away.
        away: Duration,
    },
    /// The broker ends as [`Broker::kill`](crate::Broker::kill) does, and starts again.
    Crash {
        /// How long the broker is away.
        away: Duration,
    },
}

impl Fault {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "Refuse",
            Self::HalfOpen => "HalfOpen",
            Self::Cut => "Cut",
            Self::Stall { .. } => "Stall",
            Self::Delay { .. } => "Delay",
            Self::Slow { .. } => "Slow",
            Self::CorruptFrame => "CorruptFrame",
            Self::CloseConnection { .. } => "CloseConnection",
            Self::CloseChannel { .. } => "CloseChannel",
            Self::DropConfirm => "DropConfirm",
            Self::DelayConfirm { .. } => "DelayConfirm",
            Self::Nack => "Nack",
            Self::Return => "Return",
            Self::CancelConsumer => "CancelConsumer",
            Self::Block { .. } => "Block",
            Self::Restart { .. } => "Restart",
            Self::Crash { .. } => "Crash",
        }
    }

    /// Whether the fault affects bytes: a [`Gate`] carries it out, without a broker.
    pub(crate) fn is_of_transport(&self) -> bool {
        matches!(self, Self::HalfOpen | Self::Cut | Self::Stall { .. } | Self::Delay { .. } | Self::Slow { .. })
    }

    /// Whether the fault is an answer to a publish, and impossible without one.
    pub(crate) fn answers_a_publish(&self) -> bool {
        matches!(self, Self::DropConfirm | Self::DelayConfirm { .. } | Self::Nack | Self::Return)
    }

    /// Whether the fault affects the whole broker.
    pub(crate) fn is_of_the_broker(&self) -> bool {
        matches!(self, Self::Block { .. } | Self::Restart { .. } | Self::Crash { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
