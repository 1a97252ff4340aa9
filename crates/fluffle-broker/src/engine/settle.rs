//! Settling deliveries: acknowledged, rejected, requeued, recovered.

use super::{
    ChannelKey, Engine,
    consumer::{Pending, Settlement},
    kind::QueueKind,
    refusal::Refusal,
};

impl Engine {
    /// Settles one delivery, or all up to it; tag 0 with `multiple` means all. In a transaction, this waits for the
    /// commit.
    pub(crate) fn settle(
        &mut self,
        channel: ChannelKey,
        tag: u64,
        multiple: bool,
        how: Settlement,
    ) -> Result<(), Refusal> {
        let Some(open) = self.channels.get_mut(channel) else { return Ok(()) };
        let known = match (tag, multiple) {
            (0, true) => true,
            (tag, true) => open.unacked.contains(tag),
            (tag, false) => open.unacked.contains(tag),
        };
        if !known {
            return Err(Refusal::precondition(format!("unknown delivery tag {tag}")));
        }
        let mut settled = Vec::new();
        if multiple {
            let last = if tag == 0 { u64::MAX } else { tag };
            settled.extend(std::iter::from_fn(|| open.unacked.take_first(last)));
        } else {
            settled.extend(open.unacked.take(tag));
        }
        settled.iter().for_each(|pending| self.settled(channel, pending));
        let settled: Vec<_> = settled.into_iter().map(|pending| (pending, how)).collect();
        let Some(open) = self.channels.get_mut(channel) else { return Ok(()) };
        match open.transaction.as_mut() {
            Some(transaction) => transaction.settled.extend(settled),
            None => {
                self.check_settled(&settled)?;
                self.conclude(channel, settled);
            }
        }
        Ok(())
    }

    /// Carries out the settlement of deliveries that were already removed from the channel's list.
    pub(super) fn conclude(&mut self, channel: ChannelKey, settled: Vec<(Pending, Settlement)>) {
        let mut consumers = Vec::new();
        let mut queues = Vec::new();
        for (pending, how) in settled {
            if let Some(consumer) = pending.consumer.and_then(|key| self.consumers.get_mut(key)) {
                consumer.unacked = consumer.unacked.saturating_sub(1);
            }
            if let Some(key) = pending.consumer
                && consumers.last() != Some(&key)
                && !consumers.contains(&key)
            {
                consumers.push(key);
            }
            let key = pending.queue;
            let Some(queue) = self.queues.get_mut(key) else { continue };
            queue.unacked = queue.unacked.saturating_sub(1);
            match how {
                Settlement::Ack => {}
                Settlement::Reject => self.dead_letter(key, &pending.entry.message, "rejected"),
                Settlement::Requeue | Settlement::Lost => {
                    self.put_back(pending, how);
                    if !queues.contains(&key) {
                        queues.push(key);
                    }
                }
            }
        }
        queues.into_iter().for_each(|queue| {
            self.run_queue(queue);
            self.drop_surplus(queue);
        });
        let global = self.channels.get(channel).is_some_and(|open| open.global_prefetch > 0);
        match global {
            true => self.wake_channel(channel),
            false => consumers.into_iter().for_each(|consumer| self.wake_consumer(consumer)),
        }
    }

    /// Puts a delivery back to its position, or removes it from the queue if it is past the delivery limit.
    fn put_back(&mut self, pending: Pending, how: Settlement) {
        let Some(queue) = self.queues.get_mut(pending.queue) else { return };
        if queue.log.is_some() {
            // A stream has kept it.
            return;
        }
        let mut entry = pending.entry;
        entry.redelivered = true;
        if queue.spec.kind == QueueKind::Quorum {
            entry.delivery_count += 1;
            if queue.spec.delivery_limit.is_some_and(|limit| i64::from(entry.delivery_count) > limit) {
                self.dead_letter(pending.queue, &entry.message, "delivery_limit");
                return;
            }
            // RabbitMQ appends it to the end of the queue, unless a delivery limit bounds how often it can return.
            if queue.spec.delivery_limit.is_none() && how == Settlement::Requeue {
                entry.position = queue.next_position;
                queue.next_position += 1;
            }
        }
        let priority = entry.message.properties.priority.min(queue.spec.max_priority);
        queue.ready.push(priority, entry);
    }

    /// 541 if the channel holds deliveries of a stream, because RabbitMQ's channel crashes over `basic.recover` then.
    pub(crate) fn check_recover(&self, channel: ChannelKey) -> Result<(), Refusal> {
        let held = self.channels.get(channel).map(|open| open.unacked.iter());
        let of_stream = held.into_iter().flatten().any(|pending| self.is_stream(pending.queue));
        if of_stream { Err(Refusal::internal()) } else { Ok(()) }
    }

    /// `basic.recover` with requeue: returns all unsettled deliveries of the channel.
    pub(crate) fn recover(&mut self, channel: ChannelKey) {
        let Some(open) = self.channels.get_mut(channel) else { return };
        let unsettled = std::iter::from_fn(|| open.unacked.take_first(u64::MAX));
        let returned = unsettled.map(|pending| (pending, Settlement::Requeue)).collect();
        self.conclude(channel, returned);
    }

    /// Returns the deliveries of a closing channel, and drops its transaction.
    pub(super) fn give_back(&mut self, channel: ChannelKey) {
        self.end_transaction(channel);
        let Some(open) = self.channels.get_mut(channel) else { return };
        let held = std::iter::from_fn(|| open.unacked.take_first(u64::MAX));
        let returned = held.map(|pending| (pending, Settlement::Lost)).collect();
        self.conclude(channel, returned);
    }
}
