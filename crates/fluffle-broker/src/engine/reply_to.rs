//! Direct reply-to: answers that go straight to a channel, through no queue.
//!
//! Semantics: <https://www.rabbitmq.com/docs/direct-reply-to>.

use std::rc::Rc;

use super::{
    ChannelKey, Effect, Engine, Outgoing,
    consume::Subscription,
    message::{Message, Properties},
    refusal::Refusal,
};

/// The queue that does not exist.
pub(super) const QUEUE: &str = "amq.rabbitmq.reply-to";

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

    /// Whether someone waits for answers at an address; the general one always exists.
    pub(super) fn is_reply_address(&self, name: &str) -> bool {
        name == QUEUE || self.reply_addresses.contains_key(name)
    }

    /// A request's `reply_to` of `amq.rabbitmq.reply-to` becomes the address of its channel.
    pub(super) fn fill_reply_address(&self, channel: ChannelKey, properties: &mut Properties) -> Result<(), Refusal> {
        if properties.reply_to.as_deref() != Some(QUEUE) {
            return Ok(());
        }
        let Some((_, address)) = self.channels.get(channel).and_then(|open| open.replies.as_ref()) else {
            return Err(Refusal::precondition("fast reply consumer does not exist"));
        };
        let named = properties.decode().with_reply_to((&**address).into());
        *properties = Properties::encode(&named).unwrap_or_default();
        Ok(())
    }

    /// Delivers an answer if the routing key is a reply address, and says whether it was.
    pub(super) fn deliver_reply(&mut self, message: &Rc<Message>) -> bool {
        if !message.key.starts_with(QUEUE) {
            return false;
        }
        let Some(channel) = self.reply_addresses.get(&message.key).and_then(|key| self.channels.get_mut(*key)) else {
            return false;
        };
        let Some((consumer, _)) = channel.replies.clone() else { return false };
        let tag = channel.next_tag;
        channel.next_tag += 1;
        let effect = Effect::Deliver { consumer, tag, redelivered: false, message: message.clone(), delivery_count: 0 };
        self.outbox.push(Outgoing { connection: channel.connection, channel: channel.number, effect });
        true
    }
}
