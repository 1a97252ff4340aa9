//! A message comes in: checked, routed, enqueued, returned, confirmed.

use std::rc::Rc;

use amq_protocol::types::AMQPValue;
use bytes::Bytes;

use super::{
    ChannelKey, Effect, Engine, Outgoing, QueueKey,
    fault::Answer,
    message::{Message, Properties},
    queue::{Entry, Overflow},
    refusal::Refusal,
    timers::Timer,
};

/// `basic.publish` with its content.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) exchange: Rc<str>,
    pub(crate) key: Rc<str>,
    pub(crate) mandatory: bool,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
}

impl Engine {
    /// Publishes, or within a transaction keeps the message for the commit.
    pub(crate) fn publish(&mut self, channel: ChannelKey, publication: Publication) -> Result<(), Refusal> {
        let ttl = self.check_publication(channel, &publication)?;
        let Publication { exchange, key, mandatory, mut properties, body } = publication;
        self.fill_reply_address(channel, &mut properties)?;
        let message = Rc::new(Message::new(&self.memory, (exchange, key), properties, body, ttl));
        match self.channels.get_mut(channel).and_then(|open| open.transaction.as_mut()) {
            Some(transaction) => transaction.published.push((message, mandatory)),
            None => self.accept(channel, message, mandatory),
        }
        Ok(())
    }

    /// Routes a checked message, and returns and confirms it where that was asked for.
    pub(super) fn accept(&mut self, channel: ChannelKey, message: Rc<Message>, mandatory: bool) {
        let Some((vhost, _, connection)) = self.place(channel) else { return };
        let mut queues = self.route_all(vhost, &message);
        let answer = self.answer(channel, &message, mandatory, &queues);
        match answer {
            Answer::Nack => return self.confirm(channel, false, answer),
            Answer::Return => queues = Rc::new([]),
            _ => {}
        }
        let answered = answer != Answer::Return && message.exchange.is_empty() && self.deliver_reply(&message);
        if queues.is_empty() && mandatory && !answered {
            let number = self.channels.get(channel).map_or(0, |open| open.number);
            let effect = Effect::Return(message.clone());
            self.outbox.push(Outgoing { connection, channel: number, effect });
        }
        let message = without_bcc(message);
        let mut accepted = true;
        for queue in queues.iter() {
            accepted &= self.enqueue(*queue, &message);
        }
        self.confirm(channel, accepted, answer);
    }

    /// The queues of a message: by its routing key, and by those in its `CC` and `BCC` headers
    /// (RabbitMQ's sender-selected distribution).
    pub(super) fn route_all(&mut self, vhost: super::VhostKey, message: &Message) -> Rc<[QueueKey]> {
        let copies = match message.properties.has_headers {
            true => carbon_copies(&message.properties, &["CC", "BCC"]),
            false => Vec::new(),
        };
        let keys: Vec<&str> = std::iter::once(&message.key).chain(&copies).map(|key| &**key).collect();
        self.route(vhost, &message.exchange, &keys, &message.properties)
    }

    fn check_publication(&self, channel: ChannelKey, publication: &Publication) -> Result<Option<u64>, Refusal> {
        let Some((vhost, vhost_name, connection)) = self.place(channel) else { return Ok(None) };
        let (size, limit) = (publication.body.len() as u64, self.limits.message_bytes);
        if size > limit {
            let text = format!("message size {size} is larger than configured max size {limit}");
            return Err(Refusal::precondition(text));
        }
        let exchange = self.vhosts.get(vhost).and_then(|home| home.exchanges.get(&publication.exchange));
        let Some(exchange) = exchange else {
            return Err(Refusal::not_found("exchange", &publication.exchange, &vhost_name));
        };
        if exchange.spec.internal {
            let text = format!("cannot publish to internal exchange '{}' in vhost '{vhost_name}'", exchange.name);
            return Err(Refusal::access(text));
        }
        let user = self.connections.get(connection).map(|open| open.user.clone()).unwrap_or_default();
        if let Some(claimed) = &publication.properties.user_id
            && **claimed != *user
        {
            let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
            return Err(Refusal::precondition(text));
        }
        if publication.properties.has_headers {
            for name in ["CC", "BCC"] {
                if let Some(value) = publication.properties.headers().inner().get(name)
                    && !matches!(value, AMQPValue::FieldArray(_))
                {
                    let kind = super::arguments::type_name(value);
                    let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
                    return Err(Refusal::precondition(text));
                }
            }
        }
        publication.properties.expiration.as_deref().map(milliseconds).transpose()
    }

    /// Puts a message into a queue and says whether the queue took it.
    pub(super) fn enqueue(&mut self, key: QueueKey, message: &Rc<Message>) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return true };
        let full = |count: usize, bytes: u64| {
            queue.spec.max_length.is_some_and(|most| count as u64 > most)
                || queue.spec.max_bytes.is_some_and(|most| bytes > most)
        };
        if queue.spec.overflow != Overflow::DropHead
            && full(queue.ready.len() + 1, queue.ready.bytes() + message.body.len() as u64)
        {
            if queue.spec.overflow == Overflow::RejectPublishDlx {
                self.dead_letter(key, message, "maxlen");
            }
            return false;
        }
        let limited = queue.spec.max_length.is_some() || queue.spec.max_bytes.is_some();
        let ttl = queue.spec.ttl.into_iter().chain(message.ttl).min();
        let expires = ttl.map_or(u64::MAX, |ttl| self.now.saturating_add(ttl));
        let position = queue.next_position;
        queue.next_position += 1;
        let priority = message.properties.priority.min(queue.spec.max_priority);
        let entry = Entry { message: message.clone(), position, expires, delivery_count: 0, redelivered: false };
        queue.ready.push(priority, entry);
        self.run_queue(key);
        if limited {
            self.drop_surplus(key);
        }
        true
    }

    /// Drops from the head, dead-lettering, what is over the queue's length limits.
    pub(super) fn drop_surplus(&mut self, key: QueueKey) {
        while let Some(queue) = self.queues.get_mut(key) {
            let (count, bytes) = (queue.ready.len() as u64, queue.ready.bytes());
            let over = queue.spec.max_length.is_some_and(|most| count > most)
                || queue.spec.max_bytes.is_some_and(|most| bytes > most);
            if !over || queue.spec.overflow != Overflow::DropHead {
                return;
            }
            let Some(entry) = queue.ready.pop() else { return };
            self.dead_letter(key, &entry.message, "maxlen");
        }
    }

    /// Notes a confirm; the outbox gets it, joined with its neighbours, when it is taken.
    fn confirm(&mut self, key: ChannelKey, accepted: bool, answer: Answer) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(confirms) = channel.confirms.as_mut() else { return };
        confirms.last += 1;
        let tag = confirms.last;
        confirms.withheld += u64::from(answer.is_withheld());
        match answer {
            Answer::Never => return,
            Answer::Late(time) => {
                return self.set_timer(self.now.saturating_add(time), Timer::Confirm(key, tag, accepted));
            }
            _ => {}
        }
        // One for many would confirm those in between that are to wait.
        if accepted && confirms.withheld == 0 {
            if confirms.acked.replace(confirms.last).is_none() {
                self.confirming.push(key);
            }
            confirms.count += 1;
            return;
        }
        self.tell_confirm(key, tag, accepted);
    }

    /// Tells one confirm, after those before it.
    fn tell_confirm(&mut self, key: ChannelKey, tag: u64, accepted: bool) {
        self.tell_confirms();
        let Some(channel) = self.channels.get(key) else { return };
        let effect = if accepted { Effect::Ack { tag, multiple: false } } else { Effect::Nack { tag } };
        self.outbox.push(Outgoing { connection: channel.connection, channel: channel.number, effect });
    }

    /// Tells a confirm that was to come late.
    pub(super) fn tell_late(&mut self, key: ChannelKey, tag: u64, accepted: bool) {
        self.tell_confirm(key, tag, accepted);
        if let Some(confirms) = self.channels.get_mut(key).and_then(|open| open.confirms.as_mut()) {
            confirms.withheld -= 1;
        }
    }

    /// Moves noted confirms into the outbox.
    pub(super) fn tell_confirms(&mut self) {
        for key in std::mem::take(&mut self.confirming) {
            let Some(channel) = self.channels.get_mut(key) else { continue };
            let Some(confirms) = channel.confirms.as_mut() else { continue };
            let Some(tag) = confirms.acked.take() else { continue };
            let multiple = std::mem::take(&mut confirms.count) > 1;
            let effect = Effect::Ack { tag, multiple };
            self.outbox.push(Outgoing { connection: channel.connection, channel: channel.number, effect });
        }
    }
}

/// The message as its receivers may see it: who else gets it in secret is not for them to know.
fn without_bcc(message: Rc<Message>) -> Rc<Message> {
    if !message.properties.has_headers || !message.properties.headers().contains_key("BCC") {
        return message;
    }
    let properties = message.properties.decode();
    let headers = super::dead_letter::without(&message.properties.headers(), "BCC");
    let Some(properties) = Properties::encode(&properties.with_headers(headers)) else { return message };
    let place = (message.exchange.clone(), message.key.clone());
    Rc::new(message.copy(place, properties, message.ttl))
}

/// A message's expiration: an integer as Erlang reads one from a string, or RabbitMQ's words for why not.
fn milliseconds(text: &str) -> Result<u64, Refusal> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.len() - unsigned.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let rest = &unsigned[digits..];
    let problem = match text.strip_suffix(rest).unwrap_or(text).parse::<i128>() {
        Err(_) => "no_integer".to_owned(),
        Ok(_) if !rest.is_empty() => format!("{{leftover_string,\"{rest}\"}}"),
        Ok(number) if number < 0 => format!("{{value_negative,{number}}}"),
        Ok(number) => match u32::try_from(number) {
            Ok(number) => return Ok(number.into()),
            Err(_) => format!("{{value_too_large,{number}}}"),
        },
    };
    Err(Refusal::precondition(format!("invalid expiration '{text}': {problem}")))
}

/// The routing keys in array headers of these names.
pub(super) fn carbon_copies(properties: &Properties, names: &[&str]) -> Vec<Rc<str>> {
    let headers = properties.headers();
    let arrays = names.iter().filter_map(|name| match headers.inner().get(*name) {
        Some(AMQPValue::FieldArray(keys)) => Some(keys),
        _ => None,
    });
    let keys = arrays.flat_map(|keys| keys.as_slice());
    keys.filter_map(|key| match key {
        AMQPValue::LongString(key) => std::str::from_utf8(key.as_bytes()).ok().map(Rc::from),
        _ => None,
    })
    .collect()
}
