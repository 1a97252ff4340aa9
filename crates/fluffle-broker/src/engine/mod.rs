//! The broker's state and rules: synchronous, without I/O, with the time passed in. A command comes from a connection
//! or channel; effects for any connection or channel are collected in the outbox.

mod arguments;
mod binding;
mod consume;
mod consumer;
mod dead_letter;
mod declare;
mod deliver;
mod exchange;
mod expiration;
mod fault;
mod kind;
mod life;
mod log;
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
mod start;
mod state;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod transaction;

pub(crate) use self::{
    binding::Destination,
    consume::{Fetched, Subscription},
    consumer::Settlement,
    declare::ExchangeDeclaration,
    fault::Seat,
    memory::Memory,
    message::{AddedHeader, Message, Property},
    publish::Publication,
    queue::Entry,
    queues::QueueDeclaration,
    refusal::Refusal,
    state::{Effect, Engine, Limits, Outgoing, Vhost},
    table::{Plain, Reader, Table, TableValue},
};
pub(crate) use crate::keys::{ChannelKey, ConnectionKey, ConsumerKey, QueueKey, VhostKey};
