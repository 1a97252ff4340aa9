//! One connection, as the rest of the protocol layer sees it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use amq_protocol::protocol::{AMQPClass, channel};
use tokio::{sync::Notify, time::Instant};

use super::{channel::ChannelState, encode, output::Output};
use crate::engine::{ConnectionKey, Effect, Refusal};

/// Bytes waiting for a socket above which nothing more is read from its client: whoever does not read
/// answers may not ask questions.
const READ_LIMIT: usize = 8 << 20;

pub(crate) struct Link {
    pub(crate) key: Cell<Option<ConnectionKey>>,
    pub(crate) output: RefCell<Output>,
    pub(crate) channels: RefCell<HashMap<u16, ChannelState>>,
    pub(crate) frame_max: Cell<usize>,
    pub(crate) channel_max: Cell<u16>,
    /// Seconds; 0 for none.
    pub(crate) heartbeat: Cell<u16>,
    pub(crate) last_read: Cell<Instant>,
    pub(crate) last_write: Cell<Instant>,
    /// There is something to write.
    pub(crate) wake: Notify,
    /// Something was written.
    pub(crate) drained: Notify,
    /// The negotiation is over: heartbeats begin.
    pub(crate) tuned: Notify,
    /// The broker stops: close with 320.
    pub(crate) shut: Notify,
    /// The socket is to be dropped at once.
    pub(crate) cut: Notify,
}

impl Link {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            key: Cell::new(None),
            output: RefCell::default(),
            channels: RefCell::default(),
            frame_max: Cell::new(4096),
            channel_max: Cell::new(0),
            heartbeat: Cell::new(0),
            last_read: Cell::new(now),
            last_write: Cell::new(now),
            wake: Notify::new(),
            drained: Notify::new(),
            tuned: Notify::new(),
            shut: Notify::new(),
            cut: Notify::new(),
        }
    }

    /// Writes an effect, unless its channel has closed meanwhile.
    pub(crate) fn apply(&self, channel: u16, effect: &Effect) {
        let open = matches!(self.channels.borrow().get(&channel), Some(ChannelState::Open(_)));
        if !open {
            return;
        }
        match effect {
            Effect::CloseChannel(refusal) => self.close_channel(channel, refusal, (0, 0)),
            effect => encode::effect(&mut self.output.borrow_mut(), channel, self.frame_max.get(), effect),
        }
        self.wake.notify_one();
    }

    /// Tells the client that a channel is closed, and why; `cause` is the class and method.
    pub(crate) fn close_channel(&self, number: u16, refusal: &Refusal, cause: (u16, u16)) {
        tracing::debug!(channel = number, code = refusal.code, text = refusal.text, "channel closed by the broker");
        let close = channel::Close {
            reply_code: refusal.code,
            reply_text: short(&refusal.text),
            class_id: cause.0,
            method_id: cause.1,
        };
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
        self.channels.borrow_mut().insert(number, ChannelState::Closing);
    }

    pub(crate) fn send(&self, channel: u16, method: AMQPClass) {
        encode::method(&mut self.output.borrow_mut(), channel, method);
        self.wake.notify_one();
    }

    /// Whether little enough waits for the socket to go on with the client's commands.
    pub(crate) fn is_readable(&self) -> bool {
        self.output.borrow().len() <= READ_LIMIT
    }

    /// Waits until enough has been written to go on.
    pub(crate) async fn until_readable(&self) {
        while !self.is_readable() {
            self.drained.notified().await;
        }
    }
}

/// A text cut to the 255 bytes a short string may have.
pub(crate) fn short(text: &str) -> amq_protocol::types::ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
