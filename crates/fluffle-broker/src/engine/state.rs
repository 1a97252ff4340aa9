//! The engine's state, its limits, and the effects and timers that wait in it. The other files of this folder have its
//! rules, each for one kind of command or event.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    rc::Rc,
};

use slotmap::SlotMap;

use super::{
    consumer::{Channel, Connection, Consumer},
    exchange::Exchange,
    memory::Memory,
    message::{AddedHeader, Message},
    queue::Queue,
    refusal::Refusal,
};
use crate::{
    fault::Plan,
    keys::{ChannelKey, ConnectionKey, ConsumerKey, QueueKey, VhostKey},
};

/// The limits of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many milliseconds a delivery may wait for its acknowledgement.
    pub(crate) consumer_timeout: u64,
    /// The largest message body, in bytes.
    pub(crate) message_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: Rc<str>,
    pub(crate) exchanges: HashMap<Rc<str>, Exchange>,
    pub(crate) queues: HashMap<Rc<str>, QueueKey>,
}

/// An effect at a client, apart from the answer to its command.
#[derive(Debug)]
pub(crate) enum Effect {
    Deliver { consumer: Rc<str>, tag: u64, redelivered: bool, message: Rc<Message>, header: Option<AddedHeader> },
    Return(Rc<Message>),
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64 },
    Cancel(Rc<str>),
    CloseChannel(Refusal),
}

/// An effect and its channel.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) connection: ConnectionKey,
    pub(crate) channel: u16,
    pub(crate) effect: Effect,
}

/// A timed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The message at the head of a queue expires.
    Expiry(QueueKey),
    /// A queue has been unused for its `x-expires`.
    Idle(QueueKey),
    /// A delivery has waited for its acknowledgement for too long.
    Unacked(ChannelKey),
    /// A withheld confirm is sent: the number of its message, and whether it was accepted.
    Confirm(ChannelKey, u64, bool),
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) limits: Limits,
    pub(crate) faults: Rc<Plan>,
    pub(crate) memory: Memory,
    pub(super) vhosts: SlotMap<VhostKey, Vhost>,
    pub(super) queues: SlotMap<QueueKey, Queue>,
    pub(super) connections: SlotMap<ConnectionKey, Connection>,
    pub(super) channels: SlotMap<ChannelKey, Channel>,
    pub(super) consumers: SlotMap<ConsumerKey, Consumer>,
    pub(super) outbox: Vec<Outgoing>,
    /// Channels with confirms that are not sent yet.
    pub(super) confirming: Vec<ChannelKey>,
    pub(super) timers: BinaryHeap<Reverse<(u64, Timer)>>,
    /// Increased by every change of exchanges, queues and bindings, which invalidates cached routes.
    pub(super) generation: u64,
    /// Counter for generated names.
    pub(super) names: u64,
    /// The time in milliseconds, on a clock that the caller keeps.
    pub(super) now: u64,
    /// The wall clock when `now` was 0, in milliseconds since 1970.
    pub(super) epoch: u64,
    /// Dead letters that are not enqueued yet.
    pub(super) waiting_letters: VecDeque<(QueueKey, Rc<Message>)>,
    pub(super) delivering_letters: bool,
    /// Reply addresses of direct reply-to.
    pub(super) reply_addresses: HashMap<Rc<str>, ChannelKey>,
}
