//! The events at which a fault can happen, and what is known about each.

use super::Fault;

/// An event at which the broker checks the [`Rule`](super::Rule)s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was accepted. Its client is not known yet.
    Accepted,
    /// A connection is open: `connection.open` was answered.
    Opened,
    /// A frame arrived and was handled; a frame of the handshake: arrived. Heartbeats do not count.
    FrameIn,
    /// A method, with its content, is about to be sent. Heartbeats do not count.
    FrameOut,
    /// A message was published and routed, and is not in its queues yet.
    Published,
    /// A message was delivered to a consumer, and is not on the wire yet.
    Delivered,
    /// A delivery was acknowledged, rejected or requeued by its client.
    Settled,
}

impl Event {
    pub(crate) const ALL: [Self; 7] =
        [Self::Accepted, Self::Opened, Self::FrameIn, Self::FrameOut, Self::Published, Self::Delivered, Self::Settled];

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn knows_the_connection(self) -> bool {
        self != Self::Accepted
    }

    pub(crate) fn knows_the_queue(self) -> bool {
        matches!(self, Self::Published | Self::Delivered | Self::Settled)
    }
}

impl Fault {
    /// The events at which the fault can happen, its natural event first.
    pub(crate) fn events(&self) -> &'static [Event] {
        use Event::{Accepted, Delivered, FrameIn, FrameOut, Opened, Published, Settled};
        match self {
            Self::Refuse => &[Accepted],
            Self::HalfOpen | Self::Delay { .. } | Self::Slow { .. } => &Event::ALL,
            Self::Cut | Self::Stall { .. } | Self::Restart { .. } | Self::Crash { .. } => {
                &[FrameIn, Accepted, Opened, FrameOut, Published, Delivered, Settled]
            }
            Self::CorruptFrame => &[FrameOut],
            Self::CloseConnection { .. } => &[FrameIn, Opened, FrameOut, Published, Delivered, Settled],
            Self::CloseChannel { .. } => &[Published, FrameIn, FrameOut, Delivered, Settled],
            Self::DropConfirm | Self::DelayConfirm { .. } | Self::Nack | Self::Return => &[Published],
            Self::CancelConsumer => &[Delivered, Settled],
            Self::Block { .. } => &[Published, Accepted, Opened, FrameIn, FrameOut, Delivered, Settled],
        }
    }
}

/// What is known about an event.
pub(crate) struct Scene<'a> {
    pub(crate) connection: &'a str,
    pub(crate) user: &'a str,
    pub(crate) exchange: &'a str,
    pub(crate) has_queue: &'a dyn Fn(&str) -> bool,
    /// Whether the channel has confirms.
    pub(crate) confirms: bool,
    pub(crate) mandatory: bool,
}

impl<'a> Scene<'a> {
    /// An event of a connection, without a message.
    pub(crate) fn of(connection: &'a str, user: &'a str) -> Self {
        Self { connection, user, exchange: "", has_queue: &|_| false, confirms: false, mandatory: false }
    }
}
