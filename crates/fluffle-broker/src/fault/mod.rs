//! Faults: what can be made to go wrong, when, for whom; decided here, carried out where the bytes and
//! messages pass.

mod control;
mod error;
mod event;
mod gate;
mod history;
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
    control::{Place, Request, Site, serve},
    gate::Gate,
    plan::{Hit, Plan, Scene, Strike},
    tally::Cause,
    target::Chosen,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends: the broker reads late, slowly or not at all.
    ToBroker,
    /// What the broker sends.
    ToClient,
    /// Both ways.
    Both,
}

impl Direction {
    pub(crate) fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// What goes wrong. [The table](crate#faults) says when each happens by itself and what the client sees.
///
/// [`HalfOpen`](Self::HalfOpen), [`Delay`](Self::Delay), [`Slow`](Self::Slow), [`Stall`](Self::Stall) and
/// [`Block`](Self::Block) last; healing ends them early. The others are over when they have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A new connection is closed before a word is said.
    Refuse,
    /// The connection stays, and nothing comes back any more: bytes are swallowed, heartbeats end, the broker takes the
    /// client for dead after two intervals without telling it. Healed, the connection is cut, as a peer that knows
    /// nothing of it would reset it.
    HalfOpen,
    /// The socket is dropped without a word.
    Cut,
    /// Nothing passes for a time, then everything goes on.
    Stall {
        /// Which way.
        direction: Direction,
        /// How long.
        time: Duration,
    },
    /// From now on everything that is read or written waits first.
    Delay {
        /// Which way.
        direction: Direction,
        /// How long each read or write waits.
        time: Duration,
    },
    /// From now on no more than so much passes.
    Slow {
        /// Which way; both ways have the rate each.
        direction: Direction,
        /// The rate, one at least.
        bytes_per_second: u64,
    },
    /// A frame to the client ends with a wrong octet.
    CorruptFrame,
    /// The broker closes the connection.
    CloseConnection {
        /// The reply code, as 320.
        code: u16,
        /// The reply text, cut to 255 bytes.
        text: String,
    },
    /// The broker closes the channel; what was delivered on it and not acknowledged is ready again.
    CloseChannel {
        /// The reply code, as 406.
        code: u16,
        /// The reply text, cut to 255 bytes.
        text: String,
    },
    /// The message is taken, its publisher never hears of it.
    DropConfirm,
    /// The message is taken, its publisher hears of it later.
    DelayConfirm {
        /// How much later.
        time: Duration,
    },
    /// The message is not taken, and `basic.nack` says so. For channels with confirms.
    Nack,
    /// The message is not taken, and comes back with 312 NO_ROUTE before it is confirmed. For mandatory messages.
    Return,
    /// The consumer ends, as when its queue is deleted: `basic.cancel` tells clients that understand it.
    CancelConsumer,
    /// An alarm, as when memory is low: each connection that publishes is told `connection.blocked`, if it
    /// understands it, and is not read any more.
    Block {
        /// What clients are told; RabbitMQ says "low on memory".
        reason: String,
        /// How long; [`Duration::MAX`] for until it is healed.
        time: Duration,
    },
    /// The broker stops as [`Broker::stop`](crate::Broker::stop) does, and starts again.
    Restart {
        /// How long it is away.
        away: Duration,
    },
    /// The broker ends as [`Broker::kill`](crate::Broker::kill) does, and starts again.
    Crash {
        /// How long it is away.
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

    /// Whether it happens to bytes: a [`Gate`] carries it out, and needs no broker for it.
    pub(crate) fn is_of_transport(&self) -> bool {
        matches!(self, Self::HalfOpen | Self::Cut | Self::Stall { .. } | Self::Delay { .. } | Self::Slow { .. })
    }

    /// Whether it is the answer to a publish, and means nothing without one.
    pub(crate) fn answers_a_publish(&self) -> bool {
        matches!(self, Self::DropConfirm | Self::DelayConfirm { .. } | Self::Nack | Self::Return)
    }

    /// Whether it happens to the broker as a whole.
    pub(crate) fn is_of_the_broker(&self) -> bool {
        matches!(self, Self::Block { .. } | Self::Restart { .. } | Self::Crash { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
