//! Streams: what differs from other queues. A message is appended to the log, and each consumer reads all of it.

use std::rc::Rc;

use super::{
    ConsumerKey, Engine, QueueKey,
    consumer::{Pending, Settlement},
    log::Log,
    message::{Message, Properties, Property},
    queue::{Entry, Queue},
    refusal::Refusal,
    start::Start,
};

impl Engine {
    /// The wall clock, in milliseconds since 1970.
    pub(super) fn wall_clock(&self) -> u64 {
        self.epoch.saturating_add(self.now)
    }

    /// Whether a queue is a stream.
    pub(super) fn is_stream(&self, key: QueueKey) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.log.is_some())
    }

    /// 540 for a method that streams do not have.
    pub(super) fn refuse_on_stream(&self, key: QueueKey, method: &str, vhost: &str) -> Result<(), Refusal> {
        match self.queues.get(key) {
            Some(queue) if queue.log.is_some() => Err(not_supported(method, queue, vhost)),
            _ => Ok(()),
        }
    }

    /// Appends a message, and delivers it to the consumers that wait for it.
    pub(super) fn append(&mut self, key: QueueKey, message: &Rc<Message>) {
        let time = self.wall_clock();
        let Some(log) = self.queues.get_mut(key).and_then(|queue| queue.log.as_mut()) else { return };
        log.append(stored(message), time);
        self.run_stream(key);
    }

    /// Delivers to all consumers of a stream what they can take.
    pub(super) fn run_stream(&mut self, key: QueueKey) {
        let nth = |engine: &Self, index: usize| engine.queues.get(key)?.consumers.all.get(index).copied();
        let mut index = 0;
        while let Some(consumer) = nth(self, index) {
            self.read_on(consumer);
            index += 1;
        }
    }

    /// Delivers to one consumer of a stream what it can take.
    pub(super) fn read_on(&mut self, key: ConsumerKey) {
        while self.can_take(key) {
            let Some(consumer) = self.consumers.get_mut(key) else { return };
            let (queue, place) = (consumer.queue, consumer.place.unwrap_or_default());
            let log = self.queues.get(queue).and_then(|queue| queue.log.as_ref());
            let Some((offset, message)) = log.and_then(|log| log.at(place)) else { return };
            consumer.place = Some(offset + 1);
            let message = message.clone();
            let entry = Entry { message, position: offset, expires: u64::MAX, delivery_count: 0, redelivered: false };
            self.deliver(queue, key, entry);
        }
    }

    /// Streams lack `basic.nack` and `basic.reject`: 540.
    pub(super) fn check_settled<'a>(
        &self,
        settled: impl IntoIterator<Item = &'a (Pending, Settlement)>,
    ) -> Result<(), Refusal> {
        for (pending, how) in settled {
            if matches!(how, Settlement::Reject | Settlement::Requeue)
                && let Some(queue) = self.queues.get(pending.queue).filter(|queue| queue.log.is_some())
            {
                let vhost = self.vhosts.get(queue.vhost).map(|vhost| vhost.name.clone()).unwrap_or_default();
                return Err(not_supported("basic.nack and basic.reject", queue, &vhost));
            }
        }
        Ok(())
    }

    /// 541 if a queue is a stream, and the message has a header over which RabbitMQ's channel crashes then.
    pub(super) fn check_storable(&self, message: &Message, queues: &[QueueKey]) -> Result<(), Refusal> {
        let unstorable = message.properties.has_headers()
            && queues.iter().any(|queue| self.is_stream(*queue))
            && message.properties.headers().fields().any(|(_, value)| value.kind() == b'D');
        if unstorable { Err(Refusal::internal()) } else { Ok(()) }
    }
}

impl Queue {
    /// Checks what a consumer of a stream must and must not say, in RabbitMQ's order, and returns where it starts. For
    /// other queues, returns `None`.
    pub(super) fn start_reading(
        &self,
        start: Start,
        (prefetch, no_ack, global_prefetch): (u16, bool, u16),
        vhost: &str,
    ) -> Result<Option<u64>, Refusal> {
        let Some(log) = &self.log else { return Ok(None) };
        let entity = format!("queue '{}' in vhost '{vhost}'", self.name);
        if prefetch == 0 {
            return Err(Refusal::precondition(format!("consumer prefetch count is not set for '{entity}'")));
        }
        if no_ack {
            return Err(not_supported_text("automatic acknowledgement", &entity));
        }
        if global_prefetch > 0 {
            return Err(Refusal::not_implemented(format!("{entity} does not support global qos")));
        }
        first_offset(log, start).map(Some)
    }
}

fn first_offset(log: &Log, start: Start) -> Result<u64, Refusal> {
    let kept = log.offsets();
    Ok(match start {
        Start::First => kept.start,
        Start::Last => log.last(),
        Start::Next => kept.end,
        // Messages before it may be gone, or yet to come.
        Start::Offset(offset) => offset,
        Start::Time(time) => log.since(time),
        Start::Broken => return Err(Refusal::internal()),
    })
}

fn not_supported(what: &str, queue: &Queue, vhost: &str) -> Refusal {
    not_supported_text(what, &format!("queue '{}' in vhost '{vhost}'", queue.name))
}

fn not_supported_text(what: &str, entity: &str) -> Refusal {
    Refusal::not_implemented(format!("{what} not supported by stream queues {entity}"))
}

/// A message as RabbitMQ 3.10 keeps it in a stream, which is in the format of AMQP 1.0: without the cluster id, and
/// without headers that are arrays or tables.
fn stored(message: &Rc<Message>) -> Rc<Message> {
    let properties = &message.properties;
    let kept = |headers: &super::Table| headers.retaining(|value| !matches!(value.kind(), b'A' | b'F'));
    let converted = || -> Option<Properties> {
        let properties = properties.with(Property::ClusterId, None)?;
        if !properties.has_headers() {
            return Some(properties);
        }
        let headers = kept(&properties.headers());
        match headers.is_empty() {
            true => properties.with(Property::Headers, None),
            false => properties.with_headers(&headers),
        }
    };
    if !properties.has_headers() && properties.value(Property::ClusterId).is_none() {
        return message.clone();
    }
    match converted() {
        Some(converted) => {
            Rc::new(message.copy((message.exchange.clone(), message.key.clone()), converted, message.ttl))
        }
        None => message.clone(),
    }
}
