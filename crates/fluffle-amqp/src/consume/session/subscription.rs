//! A consumer's subscription to its queue on one channel, and how it changes.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    consume::session::settings::SharedSettings,
    link::{
        bounded::{OPERATION_TIMEOUT, bounded},
        socket,
    },
};

/// A subscription to a queue that a session begins and ends.
pub(crate) trait Subscribe {
    /// The prefetch of the subscription; `None` if there is none.
    fn prefetch(&self) -> Option<u16>;

    /// Whether there is or was a subscription on this channel, so that the broker may have delivered messages on it.
    fn is_engaged(&self) -> bool;

    /// Subscribes with this prefetch, unless the application has paused the consumer.
    async fn begin(&mut self, prefetch: u16) -> Result<(), lapin::Error>;

    /// Cancels the subscription and gives the deliveries that had arrived and had not been taken. Does nothing without
    /// one.
    async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error>;

    /// The next delivery; `None` if the broker cancelled the subscription. Waits for ever without one. Cancellation
    /// safe.
    async fn next(&mut self) -> Option<lapin::Result<Delivery>>;

    /// Closes the channel: everything unacked goes back to its queue at once, each message into its place.
    async fn close_channel(&self);
}

/// A subscription on one channel.
pub(crate) struct Subscription {
    channel: lapin::Channel,
    settings: Arc<SharedSettings>,
    deliveries: Option<lapin::Consumer>,
    /// What the broker was told last on this channel (`basic.qos`); the channel was opened with the settings's.
    prefetch: u16,
    /// Subscriptions begun on this channel.
    begun: u32,
}

impl Subscription {
    pub(crate) fn new(channel: lapin::Channel, settings: Arc<SharedSettings>) -> Self {
        let prefetch = settings.prefetch;
        Self { channel, settings, deliveries: None, prefetch, begun: 0 }
    }

    /// A name of its own for each: a quorum queue counts what an earlier one of the same name holds against its
    /// prefetch.
    fn tag(&self) -> String {
        match self.begun {
            0 | 1 => self.settings.tag.clone(),
            number => format!("{}.{number}", self.settings.tag),
        }
    }
}

impl Subscribe for Subscription {
    fn is_engaged(&self) -> bool {
        self.begun > 0
    }

    fn prefetch(&self) -> Option<u16> {
        self.deliveries.as_ref().map(|_| self.prefetch)
    }

    async fn begin(&mut self, prefetch: u16) -> Result<(), lapin::Error> {
        // In this order: a pause sets its switch first and looks for engaged channels then, so one of the two sees the
        // other.
        self.settings.engaged.store(true, SeqCst);
        if self.settings.guard.pause.is_on() {
            self.settings.engaged.store(self.is_engaged(), SeqCst);
            return Ok(());
        }
        if prefetch != self.prefetch {
            bounded(OPERATION_TIMEOUT, self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            self.prefetch = prefetch;
        }
        self.begun += 1;
        let mut arguments = FieldTable::default();
        // A priority of 0 is none. It is always said, because RabbitMQ refuses it for a stream, and nothing else would
        // tell that a queue which others have declared is one: a stream hands out what comes from now on, and skips
        // what came before.
        arguments.insert("x-priority".into(), AMQPValue::LongInt(self.settings.priority.unwrap_or(0)));
        let options = BasicConsumeOptions { exclusive: self.settings.exclusive, ..BasicConsumeOptions::default() };
        let (queue, tag) = (&*self.settings.queue, self.tag());
        let consuming = self.channel.basic_consume(queue.into(), tag.into(), options, arguments);
        self.deliveries = Some(bounded(OPERATION_TIMEOUT, consuming).await?);
        self.settings.subscribed.store(true, Relaxed);
        Ok(())
    }

    async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error> {
        let Some(mut deliveries) = self.deliveries.take() else { return Ok(Vec::new()) };
        self.settings.subscribed.store(false, Relaxed);
        bounded(OPERATION_TIMEOUT, self.channel.basic_cancel(self.tag().into(), BasicCancelOptions::default())).await?;
        // The broker delivers nothing after its answer: what there is, is here, and no more than the prefetch.
        let mut left = Vec::new();
        while let Some(Some(delivery)) = deliveries.next().now_or_never() {
            left.push(delivery?);
        }
        Ok(left)
    }

    async fn close_channel(&self) {
        // If it is lost instead, that does as well.
        let _ = socket::close_channel(&self.channel, OPERATION_TIMEOUT).await;
    }

    async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        match &mut self.deliveries {
            Some(deliveries) => deliveries.next().await,
            None => pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.deliveries.is_some() {
            self.settings.subscribed.store(false, Relaxed);
        }
        if self.is_engaged() {
            self.settings.engaged.store(false, SeqCst);
        }
    }
}
