//! Publishing: a message is checked, routed, enqueued, returned and confirmed.

use std::rc::Rc;

use bytes::Bytes;

use super::{
    ChannelKey, Effect, Engine, Outgoing, QueueKey,
    expiration::milliseconds,
    fault::Answer,
    message::{Message, Properties},
    queue::{Entry, Overflow},
    refusal::Refusal,
    state::Timer,
};

/// `basic.publish` with its content.
#[derive(Debug)]
pub(crate) struct Publication {
    /// The exchange. Like the routing key, it may be any bytes.
    pub(crate) exchange: Rc<[u8]>,
    pub(crate) key: Rc<[u8]>,
    pub(crate) mandatory: bool,
    /// Property flags and values. They are checked only after the exchange was found.
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

impl Engine {
    /// Publishes a message; in a transaction, keeps it for the commit.
    pub(crate) fn publish(&mut self, channel: ChannelKey, publication: Publication) -> Result<(), Refusal> {
        let exchange = self.check_exchange_of(channel, &publication)?;
        let Publication { key, mandatory, properties, body, .. } = publication;
        // RabbitMQ's channel process crashes over properties that it cannot read.
        let properties = Properties::scan(properties).ok_or_else(Refusal::internal)?;
        let properties = self.fill_reply_address(channel, properties)?;
        let ttl = self.check_properties(channel, &properties)?;
        let message = Rc::new(Message::new(&self.memory, (exchange, key), properties, body, ttl));
        match self.channels.get_mut(channel).and_then(|open| open.transaction.as_mut()) {
            Some(transaction) => {
                transaction.published.push((message, mandatory));
                Ok(())
            }
            None => self.accept(channel, message, mandatory),
        }
    }

    /// Routes a checked message. Returns and confirms it if that was asked for.
    pub(super) fn accept(&mut self, channel: ChannelKey, message: Rc<Message>, mandatory: bool) -> Result<(), Refusal> {
        let Some((vhost, _, connection)) = self.place(channel) else { return Ok(()) };
        let mut queues = self.route_all(vhost, &message);
        let answer = self.answer(channel, &message, mandatory, &queues);
        match answer {
            Answer::Nack => {
                self.confirm(channel, false, answer);
                return Ok(());
            }
            Answer::Return => queues = Rc::new([]),
            _ => {}
        }
        if answer != Answer::Return && message.exchange.is_empty() {
            self.deliver_reply(&message)?;
        }
        // No queue gets an answer to direct reply-to, so RabbitMQ returns it even if it delivers it.
        if queues.is_empty() && mandatory {
            let number = self.channels.get(channel).map_or(0, |open| open.number);
            let effect = Effect::Return(message.clone());
            self.outbox.push(Outgoing { connection, channel: number, effect });
        }
        self.check_storable(&message, &queues)?;
        let message = without_bcc(message);
        let mut accepted = true;
        for queue in queues.iter() {
            accepted &= self.enqueue(*queue, &message);
        }
        self.confirm(channel, accepted, answer);
        Ok(())
    }

    /// The queues of a message: by its routing key, and by those in its `CC` and `BCC` headers
    /// (RabbitMQ's sender-selected distribution).
    pub(super) fn route_all(&mut self, vhost: super::VhostKey, message: &Message) -> Rc<[QueueKey]> {
        let copies = match message.properties.has_headers() {
            true => carbon_copies(&message.properties, &["CC", "BCC"]),
            false => Vec::new(),
        };
        let keys: Vec<&[u8]> = std::iter::once(&message.key).chain(&copies).map(|key| &**key).collect();
        self.route(vhost, &message.exchange, &keys, &message.properties)
    }

    /// The exchange to which a message is published, if that is allowed.
    fn check_exchange_of(&self, channel: ChannelKey, publication: &Publication) -> Result<Rc<str>, Refusal> {
        let Some((vhost, vhost_name, _)) = self.place(channel) else { return Ok(Rc::from("")) };
        let (size, limit) = (publication.body.len() as u64, self.limits.message_bytes);
        if size > limit {
            let text = format!("message size {size} is larger than configured max size {limit}");
            return Err(Refusal::precondition(text));
        }
        // The name of an exchange is always UTF-8, so other bytes name no exchange.
        let name = std::str::from_utf8(&publication.exchange).ok();
        let exchange = name.and_then(|name| self.vhosts.get(vhost)?.exchanges.get(name));
        let Some(exchange) = exchange else {
            return Err(Refusal::not_found("exchange", &publication.exchange, &vhost_name));
        };
        if exchange.spec.internal {
            let text = format!("cannot publish to internal exchange '{}' in vhost '{vhost_name}'", exchange.name);
            return Err(Refusal::access(text));
        }
        Ok(exchange.name.clone())
    }

    /// Checks the same properties as RabbitMQ, in the same order, and returns the message's TTL.
    fn check_properties(&self, channel: ChannelKey, properties: &Properties) -> Result<Option<u64>, Refusal> {
        let connection = self.channels.get(channel).and_then(|open| self.connections.get(open.connection));
        let user = connection.map(|open| open.user.clone()).unwrap_or_default();
        if let Some(claimed) = properties.user_id()
            && *claimed != *user.as_bytes()
        {
            let (before, between) = ("user_id property set to '", "' but authenticated user was '");
            let text = [before.as_bytes(), claimed, between.as_bytes(), user.as_bytes(), b"'"];
            return Err(Refusal::precondition(text.concat()));
        }
        let ttl = properties.expiration().map(milliseconds).transpose()?;
        let headers = properties.headers();
        for name in ["CC", "BCC"] {
            if let Some(value) = headers.get(name)
                && value.items().is_none()
            {
                let kind = super::arguments::type_name(value);
                let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
                return Err(Refusal::precondition(text));
            }
        }
        match properties.mode {
            None | Some(1 | 2) => Ok(ttl),
            Some(other) => Err(Refusal::precondition(format!("invalid message: {{delivery_mode_unknown,{other}}}"))),
        }
    }

    /// Puts a message into a queue. Returns whether the queue accepted it.
    pub(super) fn enqueue(&mut self, key: QueueKey, message: &Rc<Message>) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return true };
        if queue.log.is_some() {
            self.append(key, message);
            return true;
        }
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

    /// Drops messages from the head, dead-lettering them, until the queue is within its length limits.
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

    /// Notes a confirm. When the outbox is taken, neighbouring confirms are joined.
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
        // A joined confirm would also confirm withheld messages in between.
        if accepted && confirms.withheld == 0 {
            if confirms.acked.replace(confirms.last).is_none() {
                self.confirming.push(key);
            }
            confirms.count += 1;
            return;
        }
        self.tell_confirm(key, tag, accepted);
    }

    /// Sends one confirm, after the earlier ones.
    fn tell_confirm(&mut self, key: ChannelKey, tag: u64, accepted: bool) {
        self.tell_confirms();
        let Some(channel) = self.channels.get(key) else { return };
        let effect = if accepted { Effect::Ack { tag, multiple: false } } else { Effect::Nack { tag } };
        self.outbox.push(Outgoing { connection: channel.connection, channel: channel.number, effect });
    }

    /// Sends a confirm that was delayed.
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

/// The message without `BCC`, because its receivers must not see the other receivers.
fn without_bcc(message: Rc<Message>) -> Rc<Message> {
    if !message.properties.has_headers() || !message.properties.headers().contains("BCC") {
        return message;
    }
    let headers = message.properties.headers().canonical().without("BCC");
    let Some(properties) = message.properties.with_headers(&headers) else { return message };
    let place = (message.exchange.clone(), message.key.clone());
    Rc::new(message.copy(place, properties, message.ttl))
}

/// The routing keys in array headers of these names.
pub(super) fn carbon_copies(properties: &Properties, names: &[&str]) -> Vec<Rc<[u8]>> {
    let headers = properties.headers();
    let arrays = names.iter().filter_map(|name| headers.get(name)?.items());
    arrays.flatten().filter_map(|key| key.text().map(Rc::from)).collect()
}
