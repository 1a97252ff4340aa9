//! The broker's state and rules: synchronous, without I/O, with the time passed in. A command comes from a connection
//! or channel; effects for any connection or channel are collected in the outbox.

mod arguments;
mod consume;
mod consumer;
mod dead_letter;
mod declare;
mod deliver;
mod exchange;
mod expiration;
mod fault;
mod life;
mod memory;
mod message;
mod publish;
mod queue;
mod queues;
mod refusal;
mod reply_to;
mod ring;
mod route;
mod session;
mod settle;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod transaction;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    rc::Rc,
};

use slotmap::{SlotMap, new_key_type};

use crate::fault::Plan;

pub(crate) use self::{
    consume::{Fetched, Subscription},
    declare::ExchangeDeclaration,
    exchange::Destination,
    fault::Seat,
    memory::Memory,
    message::{Message, Property},
    publish::Publication,
    queue::Entry,
    queues::QueueDeclaration,
    refusal::Refusal,
    settle::Settlement,
    table::{Plain, Reader, Table, Value},
};
use self::{
    consumer::{Channel, Connection, Consumer},
    exchange::Exchange,
    queue::Queue,
    timers::Timer,
};

new_key_type! {
    pub(crate) struct VhostKey;
    pub(crate) struct ConnectionKey;
    pub(crate) struct ChannelKey;
    pub(crate) struct ConsumerKey;
    pub(crate) struct QueueKey;
}

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
    Deliver { consumer: Rc<str>, tag: u64, redelivered: bool, message: Rc<Message>, delivery_count: Option<u32> },
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

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) limits: Limits,
    pub(crate) faults: Rc<Plan>,
    pub(crate) memory: Memory,
    vhosts: SlotMap<VhostKey, Vhost>,
    queues: SlotMap<QueueKey, Queue>,
    connections: SlotMap<ConnectionKey, Connection>,
    channels: SlotMap<ChannelKey, Channel>,
    consumers: SlotMap<ConsumerKey, Consumer>,
    outbox: Vec<Outgoing>,
    /// Channels with confirms that are not sent yet.
    confirming: Vec<ChannelKey>,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    /// Increased by every change of exchanges, queues and bindings, which invalidates cached routes.
    generation: u64,
    /// Counter for generated names.
    names: u64,
    /// The time in milliseconds, on a clock that the caller keeps.
    now: u64,
    /// Dead letters that are not enqueued yet.
    waiting_letters: VecDeque<(QueueKey, Rc<Message>)>,
    delivering_letters: bool,
    /// Reply addresses of direct reply-to.
    reply_addresses: HashMap<Rc<str>, ChannelKey>,
}
