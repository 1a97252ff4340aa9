//! Creating, inspecting, stopping and restarting the engine.

use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use slotmap::SlotMap;

use super::{
    ConsumerKey, Engine, Limits, Memory, Outgoing, QueueKey, Vhost, VhostKey,
    consumer::Connection,
    exchange::{Exchange, ExchangeKind, ExchangeSpec},
    kind::QueueKind,
    log::Log,
    message::Message,
    queue::Queue,
    table::Table,
};
use crate::{
    fault::Plan,
    message::QueuedMessage,
    snapshot::{ConnectionSnapshot, QueueSnapshot, Snapshot},
};

impl Engine {
    /// Creates an engine with the given virtual hosts. Each has the exchanges that the standard requires.
    pub(crate) fn new<'a>(vhosts: impl IntoIterator<Item = &'a str>, limits: Limits, faults: Rc<Plan>) -> Self {
        let mut engine = Self {
            limits,
            faults,
            memory: Memory::default(),
            vhosts: SlotMap::with_key(),
            queues: SlotMap::with_key(),
            connections: SlotMap::with_key(),
            channels: SlotMap::with_key(),
            consumers: SlotMap::with_key(),
            outbox: Vec::new(),
            confirming: Vec::new(),
            timers: BinaryHeap::new(),
            generation: 1,
            names: 0,
            now: 0,
            epoch: milliseconds_since_1970(),
            waiting_letters: VecDeque::new(),
            delivering_letters: false,
            reply_addresses: HashMap::new(),
        };
        for name in vhosts {
            engine.vhosts.insert(Vhost { name: name.into(), exchanges: standard_exchanges(), queues: HashMap::new() });
        }
        engine
    }

    pub(crate) fn vhost(&self, name: &str) -> Option<VhostKey> {
        self.vhosts.iter().find(|(_, vhost)| &*vhost.name == name).map(|(key, _)| key)
    }

    /// Moves the clock, never backwards.
    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Takes the effects since the last call. Confirms come last, as few as possible.
    pub(crate) fn take_outbox(&mut self) -> Vec<Outgoing> {
        self.tell_confirms();
        std::mem::take(&mut self.outbox)
    }

    /// Resets the state as after a restart: keeps durable entities, persistent messages and all messages of quorum
    /// queues, but no connections.
    pub(crate) fn restart(&mut self) {
        let connections: Vec<_> = self.connections.keys().collect();
        connections.into_iter().for_each(|connection| self.close_connection(connection));
        let lost: Vec<QueueKey> =
            self.queues.iter().filter(|(_, queue)| !queue.spec.durable).map(|(key, _)| key).collect();
        lost.into_iter().for_each(|queue| self.remove_queue(queue));
        for queue in self.queues.values_mut() {
            // A quorum queue keeps all of its messages on disk (RabbitMQ, "Quorum Queues", feature matrix), as a stream
            // does. The messages of a stream are in its log.
            if queue.spec.kind != QueueKind::Quorum {
                queue.ready.retain(|entry| entry.message.properties.is_persistent());
            }
            queue.used_at = self.now;
        }
        let transient: Vec<_> = self
            .vhosts
            .iter()
            .flat_map(|(vhost, home)| home.exchanges.values().map(move |exchange| (vhost, exchange)))
            .filter(|(_, exchange)| !exchange.spec.durable)
            .map(|(vhost, exchange)| (vhost, exchange.name.clone()))
            .collect();
        transient.into_iter().for_each(|(vhost, name)| self.remove_exchange(vhost, &name));
        self.outbox.clear();
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let vhost_name = |key| self.vhosts.get(key).map_or_else(String::new, |vhost: &Vhost| vhost.name.to_string());
        let queue = |queue: &Queue| QueueSnapshot {
            vhost: vhost_name(queue.vhost),
            name: queue.name.to_string(),
            ready: queue.log.as_ref().map_or(queue.ready.len(), Log::messages),
            ready_bytes: queue.log.as_ref().map_or(queue.ready.bytes(), Log::body_bytes),
            unacked: queue.unacked,
            consumers: queue.consumers.all.len(),
            // Only the message at the head of a queue can expire, so without a consumer no later expiry can come into
            // play.
            at_rest: match &queue.log {
                Some(log) => queue.consumers.all.iter().all(|key| self.has_read_all(*key, log)),
                None => !queue.was_consumed && queue.ready.next_expiry() == u64::MAX,
            },
            offsets: queue.log.as_ref().map(Log::offsets),
        };
        let connection = |connection: &Connection| ConnectionSnapshot {
            vhost: vhost_name(connection.vhost),
            user: connection.user.to_string(),
            name: connection.name.clone(),
            channels: connection.channels.len(),
        };
        let mut queues: Vec<_> = self.queues.values().map(queue).collect();
        queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
        Snapshot { queues, connections: self.connections.values().map(connection).collect() }
    }

    /// Whether nothing in a stream waits for one of its consumers.
    fn has_read_all(&self, consumer: ConsumerKey, log: &Log) -> bool {
        let place = self.consumers.get(consumer).and_then(|consumer| consumer.place);
        place.is_none_or(|place| log.at(place).is_none())
    }

    /// Returns the ready messages of a queue in any virtual host, in delivery order.
    pub(crate) fn messages(&self, name: &str) -> Option<Vec<QueuedMessage>> {
        let queue = self.queues.values().find(|queue| &*queue.name == name)?;
        let read = |(offset, message): (u64, &Rc<Message>)| QueuedMessage::in_stream(offset, message);
        Some(match &queue.log {
            Some(log) => log.iter().map(read).collect(),
            None => queue.ready.iter().map(QueuedMessage::from).collect(),
        })
    }
}

fn milliseconds_since_1970() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn standard_exchanges() -> HashMap<Rc<str>, Exchange> {
    let kinds = [
        ("", ExchangeKind::Direct),
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ];
    let exchange = |(name, kind): (&str, ExchangeKind)| {
        let arguments = Table::default();
        let spec = ExchangeSpec { kind, durable: true, auto_delete: false, internal: false, arguments };
        (name.into(), Exchange::new(name.into(), spec))
    };
    kinds.map(exchange).into()
}
