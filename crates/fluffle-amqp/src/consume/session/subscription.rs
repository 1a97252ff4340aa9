//! A consumer's subscription to its queue on one channel, and how it changes.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    consume::session::actor::SharedSettings,
    link::{
        bounded::{OPERATION_TIMEOUT, bounded},
        socket,
    },
};

/// Consumes from the settings's queue, or does not, as its guard wants.
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

    /// The prefetch it consumes with.
    pub(crate) fn prefetch(&self) -> Option<u16> {
        self.deliveries.as_ref().map(|_| self.prefetch)
    }

    /// Subscribes with this prefetch.
    pub(crate) async fn begin(&mut self, prefetch: u16) -> Result<(), lapin::Error> {
        if prefetch != self.prefetch {
            bounded(OPERATION_TIMEOUT, self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            self.prefetch = prefetch;
        }
        self.begun += 1;
        let mut arguments = FieldTable::default();
        // A priority of 0 is none. It is always said, because RabbitMQ refuses it for a stream, and nothing else would tell that
        // a queue which others have declared is one: a stream hands out what comes from now on, and skips what came before.
        arguments.insert("x-priority".into(), AMQPValue::LongInt(self.settings.priority.unwrap_or(0)));
        let options = BasicConsumeOptions { exclusive: self.settings.exclusive, ..BasicConsumeOptions::default() };
        let (queue, tag) = (&*self.settings.queue, self.tag());
        let consuming = self.channel.basic_consume(queue.into(), tag.into(), options, arguments);
        self.deliveries = Some(bounded(OPERATION_TIMEOUT, consuming).await?);
        self.settings.subscribed.store(true, Relaxed);
        Ok(())
    }

    /// Cancels it; gives what had been delivered by then and not been taken. Without a subscription there is nothing to do.
    pub(crate) async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error> {
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

    /// Closes its channel: what is unacked is the broker's again, all at once and each in its place.
    pub(crate) async fn close_channel(&self) {
        // If it is lost instead, that does as well.
        let _ = socket::close_channel(&self.channel, OPERATION_TIMEOUT).await;
    }

    /// The next delivery; `None` when the broker cancelled. Waits for ever without a subscription. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        match &mut self.deliveries {
            Some(deliveries) => deliveries.next().await,
            None => pending().await,
        }
    }

    /// A name of its own for each: a quorum queue counts what an earlier one of the same name holds against its prefetch.
    fn tag(&self) -> String {
        match self.begun {
            0 | 1 => self.settings.tag.clone(),
            number => format!("{}.{number}", self.settings.tag),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.deliveries.is_some() {
            self.settings.subscribed.store(false, Relaxed);
        }
    }
}
