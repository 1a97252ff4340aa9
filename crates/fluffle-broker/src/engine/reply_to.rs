//! Direct reply-to: answers go straight to a channel, through no queue.
//!
//! Semantics: <https://www.rabbitmq.com/docs/direct-reply-to>.

use std::rc::Rc;

use super::{
    ChannelKey, Effect, Engine, Outgoing,
    consume::Subscription,
    message::{Message, Properties, Property},
    refusal::Refusal,
};

/// The pseudo-queue of direct reply-to.
pub(super) const QUEUE: &str = "amq.rabbitmq.reply-to";

impl Subscription<'_> {
    pub(super) fn is_of_replies(&self) -> bool {
        self.queue == QUEUE
    }
}

impl Engine {
    pub(super) fn consume_replies(
        &mut self,
        channel: ChannelKey,
        wanted: &Subscription<'_>,
    ) -> Result<Rc<str>, Refusal> {
        if !wanted.no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        let fresh = wanted.tag.is_empty().then(|| self.fresh_name("amq.ctag-"));
        let tag: Rc<str> = fresh.as_deref().unwrap_or(wanted.tag).into();
        let address: Rc<str> = self.fresh_name(&format!("{QUEUE}.")).into();
        let Some(open) = self.channels.get_mut(channel) else { return Err(Refusal::channel("closed")) };
        if open.consumers.contains_key(&tag) {
            return Err(Refusal::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        if open.replies.is_some() {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        open.replies = Some((tag.clone(), address.clone()));
        self.reply_addresses.insert(address, channel);
        Ok(tag)
    }

    /// Whether answers can be sent to an address. The general address always exists.
    pub(super) fn is_reply_address(&self, name: &str) -> bool {
        name == QUEUE || self.reply_addresses.contains_key(name)
    }

    /// Replaces a request's `reply_to` of `amq.rabbitmq.reply-to` by the address of its channel.
    pub(super) fn fill_reply_address(&self, channel: ChannelKey, given: Properties) -> Result<Properties, Refusal> {
        if given.reply_to() != Some(QUEUE.as_bytes()) {
            return Ok(given);
        }
        let Some((_, address)) = self.channels.get(channel).and_then(|open| open.replies.as_ref()) else {
            return Err(Refusal::precondition("fast reply consumer does not exist"));
        };
        let canonical = given.has_headers().then(|| given.with_headers(&given.headers().canonical())).flatten();
        let encoded = [&[address.len() as u8], address.as_bytes()].concat();
        let named = canonical.as_ref().unwrap_or(&given).with(Property::ReplyTo, Some(&encoded));
        Ok(named.unwrap_or(given))
    }

    /// Delivers an answer, if the routing key is the address of an open channel.
    pub(super) fn deliver_reply(&mut self, message: &Rc<Message>) -> Result<(), Refusal> {
        let Some(address) = message.key.strip_prefix(QUEUE.as_bytes()).and_then(|rest| rest.strip_prefix(b".")) else {
            return Ok(());
        };
        let known = std::str::from_utf8(&message.key).ok().and_then(|key| self.reply_addresses.get(key));
        let Some(channel) = known.and_then(|key| self.channels.get_mut(*key)) else {
            // RabbitMQ reads two words as a process and a key. If they are not that, its channel crashes.
            let words = address.split(|octet| *octet == b'.').filter(|word| !word.is_empty()).count();
            return if words == 2 { Err(Refusal::internal()) } else { Ok(()) };
        };
        let Some((consumer, _)) = channel.replies.clone() else { return Ok(()) };
        let tag = channel.next_tag;
        channel.next_tag += 1;
        let effect = Effect::Deliver { consumer, tag, redelivered: false, message: message.clone(), header: None };
        self.outbox.push(Outgoing { connection: channel.connection, channel: channel.number, effect });
        Ok(())
    }
}
