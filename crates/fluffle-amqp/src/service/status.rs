//! A running service at a glance: what its consumers, publishers, connections and threads do now.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use crate::{
    base::consumer_state::ConsumerState,
    consume::{events::stats::ConsumerStats, message::progress::Offsets, settle::reader::Reader},
    flow::switch::SwitchStatus,
    link::{channel::ChannelShared, connection_shared::ConnectionShared, standing::Stands},
    publish::{send_queue::status::PublisherStatus, stats::PublisherStats},
    request::actor::RequesterStatus,
    service::{Service, consumer::Consumer, handler_place::BlockedIo},
};

impl Service {
    /// What every part of the service does now. Reads shared state and asks no actor, so it waits for nothing, answers
    /// while every thread of the service is blocked, and is cheap enough to call twice a second. The supervision tree
    /// is in [`snapshot`](Self::snapshot).
    ///
    /// ```no_run
    /// # fn example(service: fluffle_amqp::Service) {
    /// for consumer in service.status().consumers {
    ///     println!("{}: {} in hand of {}", consumer.name, consumer.in_hand, consumer.prefetch);
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> ServiceStatus {
        let (consumers, send_queues, tables, channels) = self.parts(|parts| {
            (parts.consumers.clone(), living(&parts.send_queues), living(&parts.requesters), living(&parts.channels))
        });
        ServiceStatus {
            consumers: consumers.iter().map(|consumer| consumer.status()).collect(),
            publishers: send_queues.iter().map(|send_queue| send_queue.status()).collect(),
            requesters: tables.iter().map(|table| table.status()).collect(),
            channels: channels.iter().map(|channel| channel_status(channel)).collect(),
            connections: self.connections(),
            threads: self.threads(),
        }
    }

    /// The running totals of each consumer, with its name in the tree. The name is that of its queue, for example
    /// `orders`. If the queue has several consumers, the further ones are called `orders#2`, `orders#3` and so on.
    pub fn consumers(&self) -> Vec<(String, ConsumerStats)> {
        self.parts(|parts| {
            let each = parts.consumers.iter().map(|consumer| (consumer.name.to_string(), consumer.settings()));
            each.map(|(name, settings)| (name, settings.events.stats(settings.look_at_state().0))).collect()
        })
    }

    /// The running totals of each publisher in use, with its name. The publishers of the consumers' copies are
    /// included.
    pub fn publishers(&self) -> Vec<(String, PublisherStats)> {
        let in_use = self.parts(|parts| living(&parts.send_queues));
        in_use.iter().map(|send_queue| (send_queue.name.to_string(), send_queue.stats())).collect()
    }

    /// The connections that the service has now, also those whose socket is down at the moment.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        let pools = [&self.inner.publish, &self.inner.consume];
        let shared = pools.into_iter().flat_map(|pool| pool.connections());
        shared.map(|shared| connection_status(&shared)).collect()
    }

    /// How late each thread of the service is. A large value means that something blocks the thread.
    ///
    /// A call sends a probe to each thread and returns without waiting for it. The probe measures how long it waited
    /// until it ran. A thread has at most one unfinished probe: while that probe waits, a call sends no other one and
    /// returns how long the probe has waited so far. Otherwise a call returns the result of the probe that an earlier
    /// call sent, so call this at intervals. Without calls, nothing is measured.
    pub fn threads(&self) -> Vec<ThreadStatus> {
        let consumers = self.parts(|parts| parts.consumers.clone());
        let status = |name: String, consumer, lag| ThreadStatus { name, consumer, lag };
        let own = self.inner.threads.lags().into_iter().map(|(name, lag)| status(name.to_owned(), None, lag));
        let handlers = consumers.iter().flat_map(|consumer| {
            let each = consumer.place.lags().enumerate();
            each.map(move |(n, lag)| status(format!("{}/{n}", consumer.name), Some(consumer.name.to_string()), lag))
        });
        own.chain(handlers).collect()
    }
}

/// The parts whose handles are still in use.
pub(super) fn living<P>(parts: &[Weak<P>]) -> Vec<std::sync::Arc<P>> {
    parts.iter().filter_map(Weak::upgrade).collect()
}

/// The status of every part of a [`Service`] at one moment: see [`Service::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The consumers, one for each lane.
    pub consumers: Vec<ConsumerStatus>,
    /// The publishers in use, one for each lane. The publishers of the consumers' copies and answers are included.
    pub publishers: Vec<PublisherStatus>,
    /// The requesters in use.
    pub requesters: Vec<RequesterStatus>,
    /// The channels of consumers, publishers and requesters, open or not.
    pub channels: Vec<ChannelStatus>,
    /// The connections.
    pub connections: Vec<ConnectionStatus>,
    /// The threads.
    pub threads: Vec<ThreadStatus>,
}

/// The status of one consumer, or of one lane of a consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Its name in the tree.
    pub name: String,
    /// The queue that it consumes from.
    pub queue: String,
    /// The queue for messages that cannot be handled. With [`AtMostOnce`](crate::AtMostOnce), such messages are dropped
    /// and the queue is not declared.
    pub dead_letter_queue: String,
    /// The name of its connection.
    pub connection: String,
    /// Its running totals.
    pub stats: ConsumerStats,
    /// What the consumer does now. The same value as in `stats`.
    pub state: ConsumerState,
    /// When the consumer entered that state.
    pub since: Instant,
    /// The maximum number of unacked deliveries that the consumer may have.
    pub prefetch: u16,
    /// The number of deliveries that were received and are not settled.
    pub in_hand: usize,
    /// The number of deliveries that wait for a handler. If batches are sorted by key, each item of a batch counts.
    pub waiting: usize,
    /// The number of deliveries that handlers have and have not answered. A delivery that was given up, or whose
    /// channel was lost, counts until its handler answers.
    pub handling: usize,
    /// The number of handler actors, whether they run or not.
    pub handlers: usize,
    /// The maximum number of deliveries that each handler actor may have in hand.
    pub concurrency: usize,
    /// Whether the handlers run on the `io` thread ([`Consume::on_io`](crate::Consume::on_io)).
    pub on_io: bool,
    /// Why they no longer do so, although the consumer asks for it.
    pub blocked_io: Option<BlockedIo>,
    /// Of a reader of a stream: how far it has come.
    pub stream: Option<StreamStatus>,
    /// Its circuit breaker, if it has one.
    pub breaker: Option<SwitchStatus>,
    /// Its kill switch, if it has one.
    pub kill_switch: Option<SwitchStatus>,
}

impl Consumer {
    fn status(&self) -> ConsumerStatus {
        let settings = self.settings();
        let (state, since) = settings.look_at_state();
        let (handlers, concurrency) = settings.handlers;
        let waiting = settings.handler_queue.len();
        ConsumerStatus {
            name: self.name.to_string(),
            queue: settings.queue.to_string(),
            dead_letter_queue: settings.side_queues.dead_letter.clone(),
            connection: self.connection().name.clone(),
            stats: settings.events.stats(state),
            state,
            since,
            prefetch: settings.prefetch,
            in_hand: settings.events.in_hand(),
            waiting,
            handling: settings.handler_queue.unanswered().saturating_sub(waiting),
            handlers,
            concurrency,
            on_io: self.place.is_io(),
            blocked_io: self.place.blocked_io(),
            stream: settings.reader.as_ref().map(|reader| stream_status(reader)),
            breaker: settings.guard.breaker().map(|switch| switch.status()),
            kill_switch: settings.guard.kill_switch().map(|switch| switch.status()),
        }
    }
}

/// How far a reader has come in its stream. All offsets are `None` until the first one is known.
///
/// The broker does not tell over AMQP 0-9-1 how far the stream itself has come, so how many messages are still to be
/// read is not known here. Its management plugin and the stream protocol tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStatus {
    /// The stream.
    pub stream: String,
    /// The name of the reader.
    pub reader: String,
    /// The first offset that is not done.
    pub next: Option<u64>,
    /// One past the highest offset that was delivered.
    pub delivered: Option<u64>,
    /// The offset in the store: after a crash the reader begins there.
    pub kept: Option<u64>,
}

fn stream_status(reader: &Reader) -> StreamStatus {
    let Offsets { next, end, kept } = reader.progress.offsets();
    StreamStatus { stream: reader.stream().to_owned(), reader: reader.spec.name.clone(), next, delivered: end, kept }
}

/// The status of one channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChannelStatus {
    /// The name of the consumer, publisher or requester that uses it.
    pub name: String,
    /// The name of its connection.
    pub connection: String,
    /// Whether it is open.
    pub is_open: bool,
    /// When the channel was opened, or, if it is not open, since when it is not.
    pub since: Instant,
    /// The number of channels that its user has had, this one included.
    pub generation: u64,
}

fn channel_status(shared: &ChannelShared) -> ChannelStatus {
    let (is_open, since, generation) = shared.is_open();
    let (name, connection) = (shared.name.clone(), shared.connection.name.clone());
    ChannelStatus { name, connection, is_open, since, generation }
}

/// The status of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// The connection's name. The broker shows it after the application's name.
    pub name: String,
    /// Whether the socket is up.
    pub connected: bool,
    /// When the socket came up, or, if it is down, since when it is down. If the socket was never up, this is the time
    /// when the service added the connection.
    pub since: Instant,
    /// How often the connection has been established.
    pub connects: u64,
    /// The address of the present socket, or of the last one if the socket is down, without credentials:
    /// `amqp://host:5672/vhost`. `None` until the first socket is up.
    pub endpoint: Option<String>,
    /// The product and version that the broker named when the socket came up, for example `RabbitMQ 3.13.7`. `None`
    /// until the first socket is up.
    pub broker: Option<String>,
    /// Queues of the topology that cannot be reached because their node of the cluster is down, each as a sentence with
    /// the queue and the node. Nothing else waits for them. The same for all connections of a service.
    pub unreachable: Vec<String>,
    /// The number of channels that have a slot on the connection, open or not.
    pub channels: usize,
    /// If the broker blocks publishing on this connection, the broker's reason, else `None`.
    pub blocked: Option<String>,
    /// If the broker blocks publishing on this connection, since when, else `None`.
    pub blocked_since: Option<Instant>,
}

fn connection_status(shared: &ConnectionShared) -> ConnectionStatus {
    let Stands { is_up, since, endpoint, blocked, peer } = shared.standing.now();
    let (blocked, blocked_since) = blocked.unzip();
    ConnectionStatus {
        name: shared.name.clone(),
        connected: is_up,
        since,
        connects: shared.connects(),
        endpoint: endpoint.map(|endpoint| endpoint.to_string()),
        broker: peer.map(|peer| peer.to_string()),
        unreachable: shared.unreached(),
        channels: shared.slots_in_use.load(std::sync::atomic::Ordering::Relaxed),
        blocked,
        blocked_since,
    }
}

/// The status of one thread of a service: see [`Service::threads`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadStatus {
    /// `io`: connections, channels, publishers, consumers and supervisors, and handlers of
    /// [`Consume::on_io`](crate::Consume::on_io). `application`: the application's own actors.
    /// `<consumer>/<n>`: handlers of that consumer.
    pub name: String,
    /// The consumer whose handlers run on the thread. `None` for `io` and `application`.
    pub consumer: Option<String>,
    /// If a probe has been sent and has not run, the time since it was sent. Else, how long the last probe waited until
    /// it ran.
    pub lag: Duration,
}
