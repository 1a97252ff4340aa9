//! The metrics of a connection and of its channels.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use fluffle_amqp::{ChannelEvent, ConnectionEvent};

use crate::{
    instrument::{counter::Seconds, gauge::Gauge},
    metrics::by_label::ByLabel,
    names,
    reading::Reading,
};

/// The metrics of one connection of the pool, through all its reconnects.
#[derive(Default)]
pub(crate) struct ConnectionMetrics {
    up: Gauge,
    lost: ByLabel,
    channels_open: Gauge,
    channels_lost: ByLabel,
    blocked: Seconds,
    blocked_since: Mutex<Option<Instant>>,
}

impl ConnectionMetrics {
    pub(crate) fn record(&self, event: &ConnectionEvent) {
        match *event {
            ConnectionEvent::Connected { .. } => self.up.set(1),
            ConnectionEvent::Lost { code, .. } => {
                self.lost.one(&code.map_or_else(|| "socket".to_owned(), |code| code.to_string()));
                self.down();
            }
            ConnectionEvent::Closed => self.down(),
            ConnectionEvent::Blocked => {
                self.since().get_or_insert_with(Instant::now);
            }
            ConnectionEvent::Unblocked => self.unblocked(),
            _ => {}
        }
    }

    pub(crate) fn record_channel(&self, event: &ChannelEvent) {
        match *event {
            ChannelEvent::Opened { .. } => self.channels_open.add(1),
            ChannelEvent::Lost { code, .. } => {
                self.channels_open.add(-1);
                self.channels_lost.one(&code.map_or_else(|| "none".to_owned(), |code| code.to_string()));
            }
            ChannelEvent::Closed => self.channels_open.add(-1),
            _ => {}
        }
    }

    fn down(&self) {
        self.up.set(0);
        self.unblocked();
    }

    fn unblocked(&self) {
        if let Some(since) = self.since().take() {
            self.blocked.add(since.elapsed());
        }
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.blocked_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, connection: &str, into: &mut Reading) {
        let now = *self.since();
        let running = now.map_or(0.0, |since| since.elapsed().as_secs_f64());
        into.number(&names::CONNECTION_UP, &[connection], whole(self.up.get()));
        for (reason, count) in self.lost.all() {
            into.count(&names::CONNECTION_LOST, &[connection, &reason], count);
        }
        into.number(&names::CONNECTION_BLOCKED, &[connection], f64::from(u8::from(now.is_some())));
        into.number(&names::CONNECTION_BLOCKED_SECONDS, &[connection], self.blocked.get() + running);
        into.number(&names::CHANNELS_OPEN, &[connection], whole(self.channels_open.get()));
        for (code, count) in self.channels_lost.all() {
            into.count(&names::CHANNELS_LOST, &[connection, &code], count);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few channels")]
fn whole(number: i64) -> f64 {
    number as f64
}
