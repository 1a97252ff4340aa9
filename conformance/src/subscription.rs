//! A consumer, one delivery at a time.

// One thought with chan.rs: a `Chan` makes subscriptions, and a subscription acknowledges and cancels on its `Chan`.

use futures_util::{FutureExt, StreamExt};
use lapin::{Consumer, message::Delivery};

use crate::{Chan, Refusal, chan::reason, text, within};

/// A lapin consumer and its channel.
pub struct Subscription {
    channel: Chan,
    consumer: Consumer,
}

impl Subscription {
    pub(crate) fn new(channel: Chan, consumer: Consumer) -> Self {
        Self { channel, consumer }
    }

    /// The consumer's tag.
    pub fn tag(&self) -> String {
        self.consumer.tag().to_string()
    }

    /// The next delivery.
    pub async fn next(&mut self) -> Delivery {
        let next = within("a delivery", self.consumer.next()).await;
        next.expect("the consumer was cancelled").expect("the consumer failed")
    }

    /// The bodies of the next deliveries.
    pub async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(text(&self.next().await.data));
        }
        bodies
    }

    /// Checks that the broker has nothing more for this consumer.
    ///
    /// The broker answers a passive declare on the same channel after all earlier deliveries of the queue, so a
    /// delivery that has not come by then does not exist.
    pub async fn is_quiet(&mut self) {
        let queue = self.consumer.queue().to_string();
        self.channel.inspect(&queue).await.unwrap();
        let early = self.consumer.next().now_or_never();
        assert!(early.is_none(), "nothing should have been delivered: {early:?}");
    }

    /// Waits until the broker cancels the consumer.
    pub async fn is_cancelled(&mut self) {
        let end = within("the consumer's end", self.consumer.next()).await;
        assert!(end.is_none(), "the consumer should have been cancelled: {end:?}");
    }

    /// Waits until the broker closes the channel, and returns why.
    pub async fn closed(&mut self) -> Refusal {
        let end = within("the channel's end", self.consumer.next()).await;
        reason(&end.expect("the consumer was cancelled").expect_err("the channel should have been closed"))
    }

    /// Cancels the consumer: `basic.cancel`.
    pub async fn cancel(&self) {
        let tag = self.consumer.tag();
        within("basic.cancel-ok", self.channel.basic_cancel(tag, Default::default())).await.unwrap();
    }
}
