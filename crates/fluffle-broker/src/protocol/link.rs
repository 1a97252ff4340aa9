//! One connection, as seen by the rest of the protocol layer.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use amq_protocol::protocol::AMQPClass;
use tokio::{sync::Notify, time::Instant};

use super::{channel::ChannelState, encode, output::Output};
use crate::{
    engine::{ConnectionKey, Effect, Refusal},
    fault::{Event, Gate, Plan},
};

/// If more bytes than this wait for the socket, nothing more is read from its client, so that a client that reads no
/// answers cannot send more requests.
const READ_LIMIT: usize = 8 << 20;

pub(crate) struct Link {
    pub(crate) key: Cell<Option<ConnectionKey>>,
    pub(crate) output: RefCell<Output>,
    pub(crate) channels: RefCell<HashMap<u16, ChannelState>>,
    pub(crate) frame_max: Cell<usize>,
    pub(crate) channel_max: Cell<u16>,
    /// Seconds; 0 means no heartbeats.
    pub(crate) heartbeat: Cell<u16>,
    pub(crate) last_read: Cell<Instant>,
    pub(crate) last_write: Cell<Instant>,
    /// Wakes the writer: there is output.
    pub(crate) wake: Notify,
    /// Wakes waiting tasks: output was written.
    pub(crate) drained: Notify,
    /// The limits are negotiated: heartbeats begin.
    pub(crate) tuned: Notify,
    /// The broker stops: close with 320.
    pub(crate) shut: Notify,
    /// Why the connection must be closed, if not because the broker stops.
    pub(crate) ending: RefCell<Option<Refusal>>,
    /// The gate that its bytes pass.
    pub(crate) gate: Gate,
    /// Whether the client published while an alarm was raised. Then nothing is read from it until the alarm is over.
    pub(crate) blocked: Cell<bool>,
    /// Whether the client understands `connection.blocked`.
    pub(crate) hears_blocked: Cell<bool>,
    pub(crate) unblocked: Notify,
}

impl Link {
    pub(crate) fn new(faults: Rc<Plan>) -> Self {
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
            ending: RefCell::default(),
            gate: Gate::new(faults),
            blocked: Cell::new(false),
            hears_blocked: Cell::new(false),
            unblocked: Notify::new(),
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
            effect => {
                encode::effect(&mut self.output.borrow_mut(), channel, self.frame_max.get(), effect);
                self.ask(Event::FrameOut, channel);
            }
        }
        self.wake.notify_one();
    }

    /// Tells the client that a channel is closed, and why. `cause` is the class and method.
    pub(crate) fn close_channel(&self, number: u16, refusal: &Refusal, cause: (u16, u16)) {
        if self.is_closing(number) {
            return;
        }
        tracing::debug!(channel = number, code = refusal.code, text = %refusal.shown(), "channel closed by the broker");
        self.send_close(number, refusal, cause);
        self.channels.borrow_mut().insert(number, ChannelState::Closing);
    }

    /// Whether the broker has closed this channel, and sends nothing more on it.
    pub(crate) fn is_closing(&self, number: u16) -> bool {
        matches!(self.channels.borrow().get(&number), Some(ChannelState::Closing))
    }

    pub(crate) fn send(&self, channel: u16, method: AMQPClass) {
        encode::method(&mut self.output.borrow_mut(), channel, method);
        self.ask(Event::FrameOut, channel);
        self.wake.notify_one();
    }

    /// Sends `channel.close`, or on channel 0 `connection.close`.
    pub(crate) fn send_close(&self, channel: u16, refusal: &Refusal, cause: (u16, u16)) {
        encode::close(&mut self.output.borrow_mut(), channel, refusal, cause);
        self.ask(Event::FrameOut, channel);
        self.wake.notify_one();
    }

    /// Asks the reader to close the connection. The reader handles no further commands.
    pub(crate) fn end_with(&self, refusal: Refusal) {
        self.ending.borrow_mut().get_or_insert(refusal);
        self.shut.notify_one();
    }

    /// Whether the client's commands may be handled: not too much output waits, and no fault obstructs the gate.
    pub(crate) fn is_readable(&self) -> bool {
        self.has_room() && !self.blocked.get() && self.gate.is_open() && self.ending.borrow().is_none()
    }

    fn has_room(&self) -> bool {
        self.output.borrow().len() <= READ_LIMIT
    }

    /// Waits until commands may be handled.
    pub(crate) async fn until_readable(&self) {
        loop {
            if self.blocked.get() {
                self.unblocked.notified().await;
            } else if !self.has_room() {
                self.drained.notified().await;
            } else {
                // This returns at once if the gate is open.
                self.gate.opened().await;
                if !self.blocked.get() && self.has_room() {
                    return;
                }
            }
        }
    }
}

/// Cuts a text to the 255 bytes of a short string, and marks the cut.
pub(crate) fn short(text: &str) -> amq_protocol::types::ShortString {
    (&*String::from_utf8_lossy(&encode::cut(text.as_bytes()))).into()
}
