//! Faults among messages. The rules are checked here. Their decision is either the answer to a publish, or is carried
//! out later, when the engine is not borrowed.

use std::rc::Rc;

use super::{
    ChannelKey, ConnectionKey, ConsumerKey, Effect, Engine, Outgoing, QueueKey,
    consumer::{Consumer, Pending},
    message::Message,
};
use crate::fault::{Event, Fault, Scene, Strike};

/// What happens to a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The normal case: no fault.
    Usual,
    Nack,
    Return,
    /// Accepted, but never confirmed.
    Never,
    /// Accepted, and confirmed so many milliseconds later.
    Late(u64),
}

impl Answer {
    pub(super) fn is_withheld(self) -> bool {
        matches!(self, Self::Never | Self::Late(_))
    }
}

/// A consumer, with its channel and connection.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) connection: ConnectionKey,
    pub(crate) channel: u16,
    pub(crate) tag: Rc<str>,
    pub(crate) queue: Rc<str>,
}

impl Engine {
    /// Returns what the rules decide about a published message. The first rule with an answer decides.
    pub(super) fn answer(&self, key: ChannelKey, message: &Message, mandatory: bool, queues: &[QueueKey]) -> Answer {
        let mut answer = Answer::Usual;
        if !self.faults.awaits(Event::Published) {
            return answer;
        }
        for fault in self.ask(Event::Published, key, None, &message.exchange, queues, mandatory) {
            answer = match fault {
                _ if answer != Answer::Usual => answer,
                Fault::Nack => Answer::Nack,
                Fault::Return => Answer::Return,
                Fault::DropConfirm => Answer::Never,
                Fault::DelayConfirm { time } => Answer::Late(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                _ => answer,
            };
        }
        answer
    }

    /// Reports that a message is on its way to a consumer.
    pub(super) fn delivered(&self, key: ConsumerKey, message: &Message, queue: QueueKey) {
        if self.faults.awaits(Event::Delivered)
            && let Some(consumer) = self.consumers.get(key)
        {
            self.ask(Event::Delivered, consumer.channel, Some(&consumer.tag), &message.exchange, &[queue], false);
        }
    }

    /// Reports that a client settled a delivery.
    pub(super) fn settled(&self, key: ChannelKey, pending: &Pending) {
        if self.faults.awaits(Event::Settled) {
            let consumer = pending.consumer.and_then(|key| self.consumers.get(key)).map(|consumer| &consumer.tag);
            self.ask(Event::Settled, key, consumer, &pending.entry.message.exchange, &[pending.queue], false);
        }
    }

    /// Checks the rules. Keeps hits that change the state for later, and returns the others.
    fn ask(
        &self,
        event: Event,
        key: ChannelKey,
        consumer: Option<&Rc<str>>,
        exchange: &str,
        queues: &[QueueKey],
        mandatory: bool,
    ) -> Vec<Fault> {
        let Some(channel) = self.channels.get(key) else { return Vec::new() };
        let Some(connection) = self.connections.get(channel.connection) else { return Vec::new() };
        let has_queue =
            |name: &str| queues.iter().filter_map(|queue| self.queues.get(*queue)).any(|queue| *queue.name == *name);
        let scene = Scene {
            exchange,
            has_queue: &has_queue,
            confirms: channel.confirms.is_some(),
            mandatory,
            ..Scene::of(&connection.name, &connection.user)
        };
        let mut answers = Vec::new();
        for hit in self.faults.ask(event, &scene) {
            if hit.fault.answers_a_publish() {
                answers.push(hit.fault);
                continue;
            }
            let (connection, channel) = (channel.connection, channel.number);
            self.faults.defer(Strike { hit, connection, channel, consumer: consumer.cloned() });
        }
        answers
    }

    /// Returns the channel with this number on a connection.
    pub(crate) fn channel(&self, connection: ConnectionKey, number: u16) -> Option<ChannelKey> {
        self.connections.get(connection)?.channels.get(&number).copied()
    }

    /// Returns every consumer of every queue.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let seat = |consumer: &Consumer| {
            let channel = self.channels.get(consumer.channel)?;
            let queue = self.queues.get(consumer.queue)?.name.clone();
            Some(Seat { connection: channel.connection, channel: channel.number, tag: consumer.tag.clone(), queue })
        };
        self.consumers.values().filter_map(seat).collect()
    }

    /// Ends a consumer on behalf of the broker, and tells its client if it supports that.
    pub(crate) fn cancel_consumer(&mut self, key: ChannelKey, tag: &Rc<str>) {
        let Some(channel) = self.channels.get(key).filter(|open| open.consumers.contains_key(tag)) else { return };
        let (connection, number) = (channel.connection, channel.number);
        if self.connections.get(connection).is_some_and(|open| open.cancel_notify) {
            self.outbox.push(Outgoing { connection, channel: number, effect: Effect::Cancel(tag.clone()) });
        }
        self.cancel(key, tag);
    }
}
