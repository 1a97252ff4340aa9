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
use tokio::time::timeout;

use crate::{
    consume::session::actor::SharedSettings,
    link::{connection::OPERATION_TIMEOUT, socket},
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

    /// Subscribes with this prefetch, unless the application has paused the consumer.
    pub(crate) async fn begin(&mut self, prefetch: u16) -> Result<(), lapin::Error> {
        // In this order: whoever pauses switches first and looks for engaged channels then, so one of the two sees the
        // other.
        self.settings.engaged.store(true, SeqCst);
        if self.settings.guard.pause.is_on() {
            self.settings.engaged.store(self.is_engaged(), SeqCst);
            return Ok(());
        }
        if prefetch != self.prefetch {
            within_time(self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
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
        self.deliveries = Some(within_time(consuming).await?);
        self.settings.subscribed.store(true, Relaxed);
        Ok(())
    }

    /// Cancels it; gives what had been delivered by then and not been taken. Without a subscription there is nothing to do.
    pub(crate) async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error> {
        let Some(mut deliveries) = self.deliveries.take() else { return Ok(Vec::new()) };
        self.settings.subscribed.store(false, Relaxed);
        within_time(self.channel.basic_cancel(self.tag().into(), BasicCancelOptions::default())).await?;
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

    /// Whether there is or was a subscription on this channel: the broker may have delivered messages that are unacked.
    pub(crate) fn is_engaged(&self) -> bool {
        self.begun > 0
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
        if self.is_engaged() {
            self.settings.engaged.store(false, SeqCst);
        }
    }
}

async fn within_time<O>(operation: impl Future<Output = Result<O, lapin::Error>>) -> Result<O, lapin::Error> {
    match timeout(OPERATION_TIMEOUT, operation).await {
        Ok(result) => result,
        Err(_) => Err(lapin::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}
