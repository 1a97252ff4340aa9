//! One accepted message, or one envelope of many, with the reply to its senders.

use std::{sync::Arc, time::Instant};

use fluffle_store::Position;

use crate::{
    flow::budget::Room,
    publish::{held::Held, message::Prepared, outcome::OutcomeSender},
};

/// One accepted message or envelope, and the reply that settles it.
pub(crate) struct Entry {
    pub(crate) message: Arc<Prepared>,
    pub(crate) reply: OutcomeSender,
    /// Whether the message is published even when its sender no longer waits.
    pub(crate) detached: bool,
    /// How often the broker has closed a channel over this message, or over another one beside it.
    pub(crate) refusals: u8,
    /// Whether the message is published on the current channel.
    pub(crate) on_the_wire: bool,
    /// Its part of the bytes that the publisher may hold, until it is settled.
    pub(crate) room: Option<Room>,
    /// Its position in the journal, if it comes from one.
    pub(crate) position: Option<Position>,
    /// Its part of the bytes that journaled messages may take in memory.
    pub(crate) held: Option<Held>,
    /// How often the message has failed and no sender has taken it back.
    pub(crate) tries: u8,
    /// Its times, if listeners want to hear them.
    pub(crate) times: Times,
}

/// When a message got how far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    /// It was accepted, or was read from a journal.
    pub(crate) accepted: Option<Instant>,
    /// It was first written to a channel.
    pub(crate) sent: Option<Instant>,
}

impl Entry {
    pub(crate) fn new(message: impl Into<Arc<Prepared>>, reply: OutcomeSender, detached: bool) -> Self {
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
            times: Times::default(),
        }
    }

    /// A message that was read from the journal. It is published whether or not a sender waits for it.
    pub(crate) fn journaled(message: Prepared, reply: OutcomeSender, position: Position, held: Held) -> Self {
        Self { position: Some(position), held: Some(held), ..Self::new(message, reply, true) }
    }

    /// Whether the sender no longer waits and has been handed the message back, so that it must not be published.
    pub(crate) fn withdrawn(&self) -> bool {
        self.reply.withdrawn() || !self.detached && self.reply.unheard()
    }

    /// How many messages this is: 1, or the items of an envelope.
    pub(crate) fn items(&self) -> usize {
        self.message.items as usize
    }
}
