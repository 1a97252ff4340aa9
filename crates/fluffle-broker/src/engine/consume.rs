//! Consumers start and end, single messages are fetched, and prefetch limits are set.

use std::rc::Rc;

use super::{
    ChannelKey, ConsumerKey, Engine, QueueKey, arguments,
    consumer::{Consumer, Pending},
    kind::QueueKind,
    message::{AddedHeader, Message},
    refusal::Refusal,
    start::Start,
    state::Timer,
    table::Table,
};

/// `basic.consume`.
#[derive(Debug)]
pub(crate) struct Subscription<'a> {
    pub(crate) queue: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
}

/// A message fetched by `basic.get`.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) message: Rc<Message>,
    /// For a quorum queue, the delivery count, which `basic.get` always shows, even if it is 0.
    pub(crate) header: Option<AddedHeader>,
    pub(crate) remaining: usize,
}

impl Engine {
    /// Adds a consumer and returns its tag. Deliveries begin only when `start_consumer` is called, so that
    /// `basic.consume-ok` is sent first.
    pub(crate) fn consume(
        &mut self,
        channel_key: ChannelKey,
        wanted: Subscription<'_>,
    ) -> Result<(Rc<str>, Option<ConsumerKey>), Refusal> {
        if wanted.is_of_replies() {
            return self.consume_replies(channel_key, &wanted).map(|tag| (tag, None));
        }
        let queue_key = self.find_queue(channel_key, wanted.queue)?;
        let Some((_, vhost, _)) = self.place(channel_key) else { return Err(Refusal::channel("closed")) };
        let now = self.wall_clock();
        let fresh = wanted.tag.is_empty().then(|| self.fresh_name("amq.ctag-"));
        let tag: Rc<str> = fresh.as_deref().unwrap_or(wanted.tag).into();
        let (Some(channel), Some(queue)) = (self.channels.get_mut(channel_key), self.queues.get_mut(queue_key)) else {
            return Err(Refusal::channel("closed"));
        };
        if channel.consumers.contains_key(&tag) || channel.replies.as_ref().is_some_and(|(other, _)| *other == tag) {
            return Err(Refusal::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        let entity = format!("queue '{}' in vhost '{vhost}'", queue.name);
        let kind = queue.spec.kind;
        let priority = match kind {
            QueueKind::Stream => 0,
            QueueKind::Classic | QueueKind::Quorum => priority(&wanted.arguments, &entity)?,
        };
        let start = match kind {
            QueueKind::Stream => Start::read(&wanted.arguments, now, &entity)?,
            QueueKind::Classic | QueueKind::Quorum => Start::Next,
        };
        kind.check_consumer(&wanted.arguments, &entity)?;
        let limits = (channel.prefetch, wanted.no_ack, channel.global_prefetch);
        let place = queue.start_reading(start, limits, &vhost)?;
        let exclusive = wanted.exclusive && kind != QueueKind::Stream;
        let shared = queue.spec.single_active || !queue.consumers.all.is_empty();
        if queue.consumers.exclusive.is_some() || exclusive && shared {
            return Err(Refusal::access(format!("{entity} in exclusive use")));
        }
        if kind == QueueKind::Quorum && channel.global_prefetch > 0 {
            return Err(Refusal::not_implemented(format!("{entity} does not support global qos")));
        }
        let key = self.consumers.insert(Consumer {
            tag: tag.clone(),
            channel: channel_key,
            queue: queue_key,
            no_ack: wanted.no_ack,
            priority,
            prefetch: channel.prefetch,
            unacked: 0,
            parked: true,
            last_tag: 0,
            place,
        });
        channel.consumers.insert(tag.clone(), key);
        queue.consumers.all.push(key);
        queue.was_consumed = true;
        if exclusive {
            queue.consumers.exclusive = Some(key);
        }
        self.touch(queue_key);
        Ok((tag, Some(key)))
    }

    /// Lets a new consumer receive messages.
    pub(crate) fn start_consumer(&mut self, key: ConsumerKey) {
        self.wake_consumer(key);
    }

    /// Ends a consumer. Its unacknowledged deliveries stay with the channel.
    pub(crate) fn cancel(&mut self, channel: ChannelKey, tag: &str) {
        // If the queue has a single active consumer, the next one becomes active.
        self.remove_consumer(channel, tag).into_iter().for_each(|queue| self.run_queue(queue));
    }

    /// Removes a consumer, and gives its queue, which is to be run: others may take what it would have been given.
    pub(super) fn remove_consumer(&mut self, channel: ChannelKey, tag: &str) -> Option<QueueKey> {
        let open = self.channels.get_mut(channel)?;
        if open.replies.as_ref().is_some_and(|(own, _)| **own == *tag)
            && let Some((_, address)) = open.replies.take()
        {
            self.reply_addresses.remove(&address);
            return None;
        }
        let key = open.consumers.remove(tag)?;
        let consumer = self.consumers.remove(key)?;
        let queue = self.queues.get_mut(consumer.queue)?;
        queue.consumers.all.retain(|other| *other != key);
        if let Some(level) = queue.consumers.active.get_mut(&consumer.priority) {
            level.retain(|other| *other != key);
        }
        if queue.consumers.exclusive == Some(key) {
            queue.consumers.exclusive = None;
        }
        if queue.spec.auto_delete && queue.consumers.all.is_empty() {
            self.remove_queue(consumer.queue);
            return None;
        }
        self.touch(consumer.queue);
        Some(consumer.queue)
    }

    /// Fetches one message, if there is one.
    pub(crate) fn get(&mut self, channel: ChannelKey, name: &str, no_ack: bool) -> Result<Option<Fetched>, Refusal> {
        let key = self.find_queue(channel, name)?;
        let vhost = self.place(channel).map(|(_, vhost, _)| vhost).unwrap_or_default();
        self.refuse_on_stream(key, "basic.get", &vhost)?;
        self.touch(key);
        self.drop_expired(key);
        let (Some(open), Some(queue)) = (self.channels.get_mut(channel), self.queues.get_mut(key)) else {
            return Ok(None);
        };
        let Some(entry) = queue.ready.pop() else { return Ok(None) };
        let tag = open.next_tag;
        open.next_tag += 1;
        let fetched = Fetched {
            tag,
            redelivered: entry.redelivered,
            message: entry.message.clone(),
            header: (queue.spec.kind == QueueKind::Quorum).then(|| AddedHeader::delivery_count(entry.delivery_count)),
            remaining: queue.ready.len(),
        };
        if !no_ack {
            queue.unacked += 1;
            open.unacked.push(Pending { tag, queue: key, consumer: None, since: self.now, entry });
            self.watch_timeout(channel);
        }
        self.drop_expired(key);
        Ok(Some(fetched))
    }

    /// `basic.qos`: for each later consumer, or with `global` for the whole channel (RabbitMQ's interpretation). A
    /// limit for consumers ends the channel's.
    pub(crate) fn qos(&mut self, channel: ChannelKey, prefetch: u16, global: bool) {
        let Some(open) = self.channels.get_mut(channel) else { return };
        match global {
            true => open.global_prefetch = prefetch,
            false => (open.prefetch, open.global_prefetch) = (prefetch, 0),
        }
        self.wake_channel(channel);
    }

    /// Marks a queue as used, which restarts its `x-expires`.
    pub(super) fn touch(&mut self, key: QueueKey) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(key) else { return };
        queue.used_at = now;
        if let Some(after) = queue.spec.expires
            && !std::mem::replace(&mut queue.idle_timer, true)
        {
            self.set_timer(now.saturating_add(after), Timer::Idle(key));
        }
    }
}

/// `x-priority`; 0 if it is absent.
fn priority(arguments: &Table, entity: &str) -> Result<i32, Refusal> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    value.integer().and_then(|priority| i32::try_from(priority).ok()).ok_or_else(|| {
        let kind = arguments::type_name(value);
        Refusal::precondition(format!("invalid arg 'x-priority' for {entity}: \"expected integer, got {kind}\""))
    })
}
