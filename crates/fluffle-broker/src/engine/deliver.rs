//! Delivering ready messages to consumers.

use super::{
    ChannelKey, ConsumerKey, Effect, Engine, Outgoing, QueueKey,
    consumer::{BACKLOG_LIMIT, Pending},
    message::AddedHeader,
    queue::Entry,
};

/// About how many bytes a delivery takes on the wire besides its body.
const DELIVERY_BYTES: usize = 100;

impl Engine {
    /// Drops expired messages, then delivers as long as there are messages and consumers that can take them.
    pub(super) fn run_queue(&mut self, key: QueueKey) {
        if self.is_stream(key) {
            return self.run_stream(key);
        }
        // A message with a TTL of 0 still reaches a consumer that is ready for it.
        while self.queues.get(key).is_some_and(|queue| queue.ready.len() > 0) {
            let Some(consumer) = self.next_consumer(key) else { break };
            let fresh = |entry: &Entry, now: u64| entry.expires > now || entry.expires == now && !entry.redelivered;
            let now = self.now;
            let Some(entry) = self.queues.get_mut(key).and_then(|queue| queue.ready.pop()) else { break };
            if fresh(&entry, now) {
                self.deliver(key, consumer, entry);
            } else {
                self.dead_letter(key, &entry.message, "expired");
            }
        }
        self.drop_expired(key);
    }

    /// Returns the consumer whose turn it is, and parks consumers on the way that cannot take a message.
    fn next_consumer(&mut self, key: QueueKey) -> Option<ConsumerKey> {
        let queue = self.queues.get_mut(key)?;
        if queue.spec.single_active {
            let first = *queue.consumers.all.first()?;
            return self.can_take(first).then_some(first);
        }
        loop {
            let queue = self.queues.get_mut(key)?;
            let mut level = queue.consumers.active.last_entry()?;
            let Some(candidate) = level.get_mut().pop_front() else {
                level.remove();
                continue;
            };
            if self.can_take(candidate) {
                // Move it to the back, because the next message goes to another consumer.
                let queue = self.queues.get_mut(key)?;
                queue.consumers.active.last_entry()?.get_mut().push_back(candidate);
                return Some(candidate);
            }
            if let Some(consumer) = self.consumers.get_mut(candidate) {
                consumer.parked = true;
            }
        }
    }

    pub(super) fn can_take(&mut self, key: ConsumerKey) -> bool {
        let Some(consumer) = self.consumers.get(key) else { return false };
        let Some(channel) = self.channels.get(consumer.channel) else { return false };
        let Some(connection) = self.connections.get_mut(channel.connection) else { return false };
        if connection.backlog >= BACKLOG_LIMIT {
            connection.congested = true;
            return false;
        }
        let within = |count: usize, limit: u16| limit == 0 || count < limit.into();
        (consumer.no_ack || within(consumer.unacked as usize, consumer.prefetch))
            // A consumer without acknowledgements also obeys the channel's limit, although it does not count against
            // it. A consumer of a stream does not: the limit was set after it began.
            && (consumer.place.is_some() || within(channel.unacked.consumed, channel.global_prefetch))
    }

    pub(super) fn deliver(&mut self, queue_key: QueueKey, consumer_key: ConsumerKey, entry: Entry) {
        self.delivered(consumer_key, &entry.message, queue_key);
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        let Some(channel) = self.channels.get_mut(consumer.channel) else { return };
        let tag = channel.next_tag;
        channel.next_tag += 1;
        consumer.last_tag = tag;
        let (connection, number) = (channel.connection, channel.number);
        if let Some(open) = self.connections.get_mut(connection) {
            open.backlog += entry.message.body.len() + DELIVERY_BYTES;
        }
        // RabbitMQ tells consumers of a quorum queue the delivery count only if an earlier delivery was returned.
        let count = (entry.delivery_count > 0).then(|| AddedHeader::delivery_count(entry.delivery_count));
        let header = consumer.place.map(|_| AddedHeader::stream_offset(entry.position)).or(count);
        let effect = Effect::Deliver {
            consumer: consumer.tag.clone(),
            tag,
            redelivered: entry.redelivered,
            message: entry.message.clone(),
            header,
        };
        self.outbox.push(Outgoing { connection, channel: number, effect });
        if consumer.no_ack {
            return;
        }
        consumer.unacked += 1;
        if let Some(queue) = self.queues.get_mut(queue_key) {
            queue.unacked += 1;
        }
        let channel_key = consumer.channel;
        let since = self.now;
        channel.unacked.push(Pending { tag, queue: queue_key, consumer: Some(consumer_key), since, entry });
        self.watch_timeout(channel_key);
    }

    /// A consumer can take messages again: makes it active, and runs its queue.
    pub(super) fn wake_consumer(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let queue_key = consumer.queue;
        if consumer.place.is_some() {
            return self.read_on(key);
        }
        let Some(queue) = self.queues.get_mut(queue_key) else { return };
        if std::mem::take(&mut consumer.parked) {
            queue.consumers.active.entry(consumer.priority).or_default().push_back(key);
        } else if !queue.spec.single_active {
            return;
        }
        self.run_queue(queue_key);
    }

    /// All consumers of a channel can take messages again. The ones that have waited longest come first, because under
    /// a shared limit the others would take everything.
    pub(super) fn wake_channel(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(key) else { return };
        let mut consumers: Vec<_> = channel.consumers.values().copied().collect();
        consumers.sort_by_key(|consumer| self.consumers.get(*consumer).map(|consumer| consumer.last_tag));
        consumers.into_iter().for_each(|consumer| self.wake_consumer(consumer));
    }
}
