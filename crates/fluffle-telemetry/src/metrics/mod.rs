//! The metrics of a service: an [`Observer`] that adds to atomics.

mod by_label;
pub(crate) mod connection;
pub(crate) mod consumer;
pub(crate) mod gauges;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod publisher;
pub(crate) mod requester;

use std::{sync::Arc, time::SystemTime};

use fluffle_amqp::{
    ChannelEvent, ChannelLabels, ConnectionEvent, ConnectionLabels, ConsumerLabels, DeliveryEvent, Listener, Observer,
    PublishEvent, PublisherLabels, ReplayEvent, ReplayLabels, RequestEvent, RequesterLabels,
};

use crate::{
    instrument::counter::Counter,
    metrics::{
        connection::ConnectionMetrics, consumer::ConsumerMetrics, group::Group, node::NodeMetrics,
        publisher::PublisherMetrics, requester::RequesterMetrics,
    },
    names,
    reading::{Family, Reading},
    source::MetricSource,
};

/// Metrics of what happens in a service. Made once, and given to the service at its start (`App::observe`).
///
/// It costs a few additions to atomics for each delivery and each published message, and no look-up. Its memory is
/// bounded by the number of queues, publishers, connections and nodes, and each of these has a limit of 256: what is
/// beyond it is counted under `_other`.
///
/// Two services in one process that share a `Metrics` share the metrics of queues and publishers of the same name.
pub struct Metrics {
    pub(crate) consumers: Group<ConsumerMetrics>,
    pub(crate) publishers: Group<PublisherMetrics>,
    pub(crate) requesters: Group<RequesterMetrics>,
    pub(crate) connections: Group<ConnectionMetrics>,
    pub(crate) nodes: Arc<Group<NodeMetrics>>,
    /// Dead letters that were replayed, by dead-letter queue.
    replayed: Group<Counter>,
    folded: Arc<Counter>,
    pub(crate) since: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        let folded = Arc::new(Counter::default());
        Self {
            consumers: Group::new(&folded),
            publishers: Group::new(&folded),
            requesters: Group::new(&folded),
            connections: Group::new(&folded),
            nodes: Arc::new(Group::new(&folded)),
            replayed: Group::new(&folded),
            folded,
            since: SystemTime::now(),
        }
    }
}

impl Metrics {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was counted until now. Takes no lock that a thread of the service waits for.
    #[must_use]
    pub fn read(&self) -> Vec<Family> {
        let mut reading = Reading::default();
        self.read_into(&mut reading);
        reading.families()
    }

    /// What was delivered and published again, over all queues and publishers.
    pub(crate) fn came_again(&self) -> (u64, u64) {
        let redelivered = self.consumers.all().iter().map(|(_, consumer)| consumer.redelivered()).sum();
        let republished = self.publishers.all().iter().map(|(_, publisher)| publisher.republished()).sum();
        (redelivered, republished)
    }

    pub(crate) fn read_into(&self, into: &mut Reading) {
        self.publishers.all().iter().for_each(|(name, publisher)| publisher.read(name, into));
        self.consumers.all().iter().for_each(|(queue, consumer)| consumer.read(queue, into));
        self.requesters.all().iter().for_each(|(name, requester)| requester.read(name, into));
        self.connections.all().iter().for_each(|(name, connection)| connection.read(name, into));
        self.nodes.all().iter().for_each(|(path, node)| node.read(path, into));
        for (queue, replayed) in self.replayed.all() {
            into.count(&names::DEAD_LETTERS_REPLAYED, &[&queue], replayed.get());
        }
        into.count(&names::SERIES_FOLDED, &[], self.folded.get());
        into.number(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    }
}

impl MetricSource for Metrics {
    fn read(&self) -> Vec<Family> {
        self.read()
    }

    fn since(&self) -> SystemTime {
        self.since
    }
}

impl Observer for Metrics {
    fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        let metrics = self.consumers.of(of.queue);
        Some(Arc::new(move |event: &DeliveryEvent| metrics.record(event)))
    }

    fn publisher(&self, of: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        let metrics = self.publishers.of(of.name);
        Some(Arc::new(move |event: &PublishEvent| metrics.record(event)))
    }

    fn requester(&self, of: &RequesterLabels<'_>) -> Option<Listener<RequestEvent>> {
        let metrics = self.requesters.of(of.name);
        Some(Arc::new(move |event: &RequestEvent| metrics.record(event)))
    }

    fn channel(&self, of: &ChannelLabels<'_>) -> Option<Listener<ChannelEvent>> {
        let metrics = self.connections.of(of.connection);
        Some(Arc::new(move |event: &ChannelEvent| metrics.record_channel(event)))
    }

    fn connection(&self, of: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
        let metrics = self.connections.of(of.name);
        Some(Arc::new(move |event: &ConnectionEvent| metrics.record(event)))
    }

    fn replay(&self, of: &ReplayLabels<'_>) -> Option<Listener<ReplayEvent>> {
        let replayed = self.replayed.of(of.queue);
        Some(Arc::new(move |event: &ReplayEvent| {
            if matches!(event, ReplayEvent::Replayed) {
                replayed.one();
            }
        }))
    }

    fn nodes(&self) -> Option<Listener<fluffle_supervise::Event>> {
        let nodes = Arc::clone(&self.nodes);
        Some(Arc::new(move |event: &fluffle_supervise::Event| nodes.of(&event.path).record(event)))
    }
}
