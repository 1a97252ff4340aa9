//! Declaring, purging and deleting queues.

use std::rc::Rc;

use super::{
    ChannelKey, Effect, Engine, Outgoing, QueueKey,
    binding::Destination,
    kind::QueueKind,
    log::Log,
    queue::{Consumers, Queue, QueueSpec, Ready},
    refusal::Refusal,
    table::Table,
};

/// `queue.declare`.
#[derive(Debug)]
pub(crate) struct QueueDeclaration<'a> {
    pub(crate) name: &'a str,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Table,
}

impl Engine {
    /// Declares a queue. Returns its name, and how many ready messages and consumers it has.
    pub(crate) fn declare_queue(
        &mut self,
        channel: ChannelKey,
        wanted: QueueDeclaration<'_>,
    ) -> Result<(Rc<str>, usize, usize), Refusal> {
        let Some((vhost, vhost_name, connection)) = self.place(channel) else { return Ok((Rc::from(""), 0, 0)) };
        if self.is_reply_address(wanted.name) {
            return Ok((wanted.name.into(), 0, 1));
        }
        if !wanted.passive && wanted.name.starts_with("amq.") {
            let text = format!("queue name '{}' contains reserved prefix 'amq.*'", wanted.name);
            return Err(Refusal::access(text));
        }
        if !wanted.passive
            && wanted.name.is_empty()
            && let Some(kind @ (QueueKind::Quorum | QueueKind::Stream)) = QueueKind::of(&wanted.arguments)
        {
            let text = format!("Cannot declare a server-named queue for type {}", kind.module());
            return Err(Refusal::precondition(text));
        }
        let name: Rc<str> = match wanted.name {
            "" if wanted.passive => self.channels.get(channel).map(|open| open.last_queue.clone()).unwrap_or_default(),
            "" => self.fresh_name("amq.gen-").into(),
            name => name.into(),
        };
        let entity = format!("queue '{name}' in vhost '{vhost_name}'");
        let existing = self.vhosts.get(vhost).and_then(|home| home.queues.get(&name)).copied();
        let key = match existing {
            Some(key) => {
                self.check_owner(channel, key)?;
                if !wanted.passive
                    && let Some(queue) = self.queues.get(key)
                {
                    if queue.spec.exclusive != wanted.exclusive {
                        return Err(Refusal::locked(&name, &vhost_name));
                    }
                    queue.spec.check_same((wanted.durable, wanted.auto_delete), &wanted.arguments, &entity)?;
                }
                key
            }
            None if wanted.passive => return Err(Refusal::not_found("queue", &*name, &vhost_name)),
            None => {
                let flags = (wanted.durable, wanted.exclusive, wanted.auto_delete);
                let spec = QueueSpec::read(flags, wanted.arguments, &entity)?;
                let log = spec.retention.map(Log::new);
                let key = self.queues.insert(Queue {
                    name: name.clone(),
                    vhost,
                    owner: spec.exclusive.then_some(connection),
                    spec,
                    ready: Ready::default(),
                    log,
                    unacked: 0,
                    next_position: 0,
                    consumers: Consumers::default(),
                    was_consumed: false,
                    used_at: self.now,
                    idle_timer: false,
                    timer_at: u64::MAX,
                });
                if let Some(home) = self.vhosts.get_mut(vhost) {
                    home.queues.insert(name.clone(), key);
                }
                self.generation += 1;
                key
            }
        };
        if let Some(open) = self.channels.get_mut(channel) {
            open.last_queue = name.clone();
        }
        self.touch(key);
        let counts = self.queues.get(key).map_or((0, 0), Queue::counts);
        Ok((name, counts.0, counts.1))
    }

    /// Returns the queue that a command names; for an empty name, the last declared one. 404 or 405 if that fails.
    pub(crate) fn find_queue(&self, channel: ChannelKey, name: &str) -> Result<QueueKey, Refusal> {
        let Some((vhost, vhost_name, _)) = self.place(channel) else {
            return Err(Refusal::not_found("queue", name, ""));
        };
        let last = self.channels.get(channel).map(|open| open.last_queue.clone()).unwrap_or_default();
        let name = match name {
            "" if last.is_empty() => {
                return Err(Refusal::no_last_queue());
            }
            "" => &last,
            name => name,
        };
        let found = self.vhosts.get(vhost).and_then(|home| home.queues.get(name)).copied();
        let key = found.ok_or_else(|| Refusal::not_found("queue", name, &vhost_name))?;
        self.check_owner(channel, key)?;
        Ok(key)
    }

    /// The queue last declared on a channel.
    pub(crate) fn last_queue(&self, channel: ChannelKey) -> Rc<str> {
        self.channels.get(channel).map(|open| open.last_queue.clone()).unwrap_or_default()
    }

    fn check_owner(&self, channel: ChannelKey, key: QueueKey) -> Result<(), Refusal> {
        let (Some((_, vhost, connection)), Some(queue)) = (self.place(channel), self.queues.get(key)) else {
            return Ok(());
        };
        match queue.owner {
            Some(owner) if owner != connection => Err(Refusal::locked(&queue.name, &vhost)),
            _ => Ok(()),
        }
    }

    /// Drops the ready messages, and returns how many there were.
    pub(crate) fn purge(&mut self, channel: ChannelKey, name: &str) -> Result<usize, Refusal> {
        let key = self.find_queue(channel, name)?;
        let vhost = self.place(channel).map(|(_, vhost, _)| vhost).unwrap_or_default();
        self.refuse_on_stream(key, "queue.purge", &vhost)?;
        Ok(self.queues.get_mut(key).map_or(0, |queue| queue.ready.clear()))
    }

    /// Deletes a queue, and returns how many messages were ready in it. Returns 0 for a queue that does not exist, and
    /// for a stream, which is deleted whether or not it is unused or empty.
    pub(crate) fn delete_queue(
        &mut self,
        channel: ChannelKey,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<usize, Refusal> {
        let key = match self.find_queue(channel, name) {
            Ok(key) => key,
            Err(refusal) if refusal.code == 404 => return Ok(0),
            Err(refusal) => return Err(refusal),
        };
        let Some((_, vhost, _)) = self.place(channel) else { return Ok(0) };
        let Some(queue) = self.queues.get(key) else { return Ok(0) };
        if queue.log.is_some() {
            self.remove_queue(key);
            return Ok(0);
        }
        if if_unused && !queue.consumers.all.is_empty() {
            return Err(Refusal::precondition(format!("queue '{}' in vhost '{vhost}' in use", queue.name)));
        }
        if if_empty && queue.ready.len() > 0 {
            return Err(Refusal::precondition(format!("queue '{}' in vhost '{vhost}' not empty", queue.name)));
        }
        let count = queue.ready.len();
        self.remove_queue(key);
        Ok(count)
    }

    /// Removes a queue, its bindings and its consumers, and tells the consumers.
    pub(super) fn remove_queue(&mut self, key: QueueKey) {
        let Some(queue) = self.queues.remove(key) else { return };
        if let Some(home) = self.vhosts.get_mut(queue.vhost) {
            home.queues.remove(&queue.name);
        }
        self.forget_destination(queue.vhost, &Destination::Queue(key));
        for consumer in queue.consumers.all {
            let Some(consumer) = self.consumers.remove(consumer) else { continue };
            let Some(channel) = self.channels.get_mut(consumer.channel) else { continue };
            channel.consumers.remove(&consumer.tag);
            let told = self.connections.get(channel.connection).is_some_and(|open| open.cancel_notify);
            if told {
                let (connection, channel) = (channel.connection, channel.number);
                self.outbox.push(Outgoing { connection, channel, effect: Effect::Cancel(consumer.tag) });
            }
        }
    }
}
