//! A consumer's subscription to its queue on one channel: begins and ends it, and changes its prefetch.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    consume::{
        session::settings::SharedSettings,
        settle::reader::{BeginAt, Reader},
    },
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

    /// Cancels the subscription and returns the deliveries that had arrived and had not been taken. Without a
    /// subscription it does nothing.
    async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error>;

    /// The next delivery; `None` if the broker cancelled the subscription. Without a subscription it waits for ever.
    /// Cancellation safe.
    async fn next(&mut self) -> Option<lapin::Result<Delivery>>;

    /// Closes the channel. Everything unacked goes back to its queue at once, each message to its old position.
    async fn close_channel(&self);
}

/// A subscription on one channel.
pub(crate) struct Subscription {
    channel: lapin::Channel,
    settings: Arc<SharedSettings>,
    deliveries: Option<lapin::Consumer>,
    /// The prefetch set last on this channel (`basic.qos`). The channel was opened with the one of the shared settings.
    prefetch: u16,
    /// How many subscriptions were begun on this channel.
    begun: u32,
}

impl Subscription {
    pub(crate) fn new(channel: lapin::Channel, settings: Arc<SharedSettings>) -> Self {
        let prefetch = settings.prefetch;
        Self { channel, settings, deliveries: None, prefetch, begun: 0 }
    }

    /// The consumer tag. Each subscription on a channel has its own, because a quorum queue counts what an earlier
    /// subscription with the same tag still holds against the prefetch of the new one.
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
        let arguments = match &self.settings.reader {
            Some(reader) => stream_arguments(reader).await,
            None => {
                // A priority of 0 has no effect, and is sent all the same: RabbitMQ refuses it for a stream. Nothing
                // else would show that a queue which others declared is a stream, and a stream would skip all messages
                // from before this subscription.
                let mut arguments = FieldTable::default();
                arguments.insert("x-priority".into(), AMQPValue::LongInt(self.settings.priority.unwrap_or(0)));
                arguments
            }
        };
        let options = BasicConsumeOptions { exclusive: self.settings.exclusive, ..BasicConsumeOptions::default() };
        let (queue, tag) = (self.settings.source(), self.tag());
        let consuming = self.channel.basic_consume(queue.into(), tag.into(), options, arguments);
        self.deliveries = Some(bounded(OPERATION_TIMEOUT, consuming).await?);
        self.settings.set_subscribed(true);
        Ok(())
    }

    async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error> {
        let Some(mut deliveries) = self.deliveries.take() else { return Ok(Vec::new()) };
        self.settings.set_subscribed(false);
        bounded(OPERATION_TIMEOUT, self.channel.basic_cancel(self.tag().into(), BasicCancelOptions::default())).await?;
        // The broker delivers nothing after it has answered `basic.cancel`, so everything has arrived: at most the
        // prefetch.
        let mut left = Vec::new();
        while let Some(Some(delivery)) = deliveries.next().now_or_never() {
            left.push(delivery?);
        }
        Ok(left)
    }

    async fn close_channel(&self) {
        // An error means that the channel is lost already, which returns its deliveries too.
        let _ = socket::close_channel(&self.channel, OPERATION_TIMEOUT).await;
    }

    async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        match &mut self.deliveries {
            Some(deliveries) => deliveries.next().await,
            None => pending().await,
        }
    }
}

/// The arguments of a subscription to a stream.
async fn stream_arguments(reader: &Reader) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let begin = match reader.begin_at().await {
        BeginAt::First => text("first"),
        BeginAt::Last => text("last"),
        BeginAt::Next => text("next"),
        BeginAt::Offset(offset) => AMQPValue::LongLongInt(offset.cast_signed()),
        BeginAt::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), begin);
    if let Some(filter) = &reader.spec.filter {
        let values: Vec<AMQPValue> = filter.values.iter().map(|value| text(value)).collect();
        arguments.insert("x-stream-filter".into(), AMQPValue::FieldArray(values.into()));
        arguments.insert("x-stream-match-unfiltered".into(), AMQPValue::Boolean(filter.also_without));
    }
    arguments
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.deliveries.is_some() {
            self.settings.set_subscribed(false);
        }
        if self.is_engaged() {
            self.settings.engaged.store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offsets, StreamReader};

    #[tokio::test]
    async fn a_filter_is_sent_as_the_list_of_its_values_and_whether_messages_without_one_come_too() {
        let sent = async |spec: fn(StreamReader) -> StreamReader| {
            let spec = spec(StreamReader::new("r", Offsets::in_memory().expect("a store")));
            stream_arguments(&Reader::new(&spec)).await
        };
        let text = |text: &str| AMQPValue::LongString(text.into());
        let names = ["x-stream-filter", "x-stream-match-unfiltered"];
        let plain = sent(|spec| spec).await;
        assert!(names.iter().all(|name| !plain.contains_key(name)), "{plain:?}");
        for (sent, also_without) in [
            (sent(|spec| spec.filter(["berlin", "paris"])).await, false),
            (sent(|spec| spec.filter(["berlin", "paris"]).also_unfiltered()).await, true),
        ] {
            let values = AMQPValue::FieldArray(vec![text("berlin"), text("paris")].into());
            let expected = [Some(&values), Some(&AMQPValue::Boolean(also_without))];
            assert_eq!(names.map(|name| sent.inner().get(name)), expected);
        }
    }
}
