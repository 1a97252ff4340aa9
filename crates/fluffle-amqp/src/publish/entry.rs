//! One accepted message, or one envelope of many, with whoever waits for it.

use std::sync::Arc;

use fluffle_store::Position;

use crate::{
    flow::budget::Room,
    publish::{journal::Held, message::Prepared, outcome::Reply},
};

/// One accepted message and whoever waits for it.
pub(crate) struct Entry {
    pub(crate) message: Arc<Prepared>,
    pub(crate) reply: Reply,
    /// Published even when nobody waits any more.
    pub(crate) detached: bool,
    /// How often the broker has closed a channel over it, or over something beside it.
    pub(crate) refusals: u8,
    /// Published on the channel of now.
    pub(crate) on_the_wire: bool,
    /// Its part of the outbox's bytes, until it is settled.
    pub(crate) room: Option<Room>,
    /// Its place in the journal it came from.
    pub(crate) position: Option<Position>,
    /// Its part of the bytes that are read from there.
    pub(crate) held: Option<Held>,
    /// How often it was not taken, with nobody there to have it back.
    pub(crate) tries: u8,
}

impl Entry {
    pub(crate) fn new(message: impl Into<Arc<Prepared>>, reply: Reply, detached: bool) -> Self {
        Self {
            message: message.into(),
            reply,
            detached,
            refusals: 0,
            on_the_wire: false,
            room: None,
            position: None,
            held: None,
            tries: 0,
        }
    }

    /// One that was read from the journal: it goes out, whoever waits for it.
    pub(crate) fn journaled(message: Prepared, reply: Reply, position: Position, held: Held) -> Self {
        Self { position: Some(position), held: Some(held), ..Self::new(message, reply, true) }
    }

    /// The caller gave up waiting and was handed the message back: publishing it now would surprise him.
    pub(crate) fn withdrawn(&self) -> bool {
        self.reply.withdrawn() || !self.detached && self.reply.unheard()
    }

    /// How many messages that is.
    pub(crate) fn items(&self) -> usize {
        self.message.items as usize
    }
}
