//! Declarations against a real RabbitMQ, with one virtual host for each test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use fluffle_harness::{RabbitMq, Vhost};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::{
    link::declare::{self, Scope},
    topology::{Exchange, Match, Overflow, Queue, Topology, TopologyError},
};

mod conflicts;
mod dead_letters;
mod declarations;
mod refusals;

const LIMIT: Duration = Duration::from_secs(10);

/// A virtual host of the shared node and a connection to it.
struct Client {
    connection: Connection,
    vhost: Vhost<'static>,
}

impl Client {
    async fn new() -> Self {
        let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
        Self { connection: connect(vhost.url()).await, vhost }
    }

    async fn declare(&self, topology: &Topology) -> Result<(), TopologyError> {
        declare_on(&self.connection, topology, Scope::Shared { without: &[] }).await
    }

    /// A channel with confirms.
    async fn channel(&self) -> Channel {
        let channel = self.connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }
}

async fn connect(url: &str) -> Connection {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    tokio::time::timeout(LIMIT, connecting).await.unwrap().unwrap()
}

async fn declare_on(connection: &Connection, topology: &Topology, scope: Scope<'_>) -> Result<(), TopologyError> {
    let unreached =
        declare::declare(topology, async || connection.create_channel().await, scope, None, |_| false, LIMIT).await?;
    assert!(unreached.is_empty(), "{unreached:?}");
    Ok(())
}

async fn publish(channel: &Channel, exchange: &str, key: &str, headers: FieldTable) {
    let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"hello", properties);
    let confirmation = sent.await.unwrap().await.unwrap();
    assert!(confirmation.is_ack(), "{confirmation:?}");
    assert!(confirmation.take_message().is_none(), "returned as unroutable");
}

/// Whether a confirmed message is in the queue; takes it out.
async fn holds_a_message(channel: &Channel, queue: &str) -> bool {
    let options = BasicGetOptions { no_ack: true };
    channel.basic_get(queue.into(), options).await.unwrap().is_some()
}

/// How many messages are ready in the queue.
async fn messages(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
}

async fn exists(client: &Client, queue: &str) -> bool {
    let channel = client.connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn everything() -> Topology {
    Topology::new()
        .exchange(Exchange::direct("direct"))
        .exchange(Exchange::fanout("fanout").transient().auto_delete())
        .exchange(Exchange::topic("topic").alternate("fanout").argument("x-note", "mine"))
        .exchange(Exchange::headers("headers").internal().bind("topic", "#"))
        .queue(Queue::classic("classic"))
        .queue(Queue::classic("passing").transient().auto_delete().bind("fanout", ""))
        .queue(
            Queue::classic("loaded")
                .message_ttl(minutes(1))
                .expires(minutes(2))
                .max_length(10)
                .max_bytes(10_000)
                .overflow(Overflow::RejectPublishDlx)
                .dead_letter_to("topic", "")
                .max_priority(5)
                .single_active_consumer()
                .argument("x-queue-mode", "lazy")
                .bind("direct", "a")
                .bind("direct", "b"),
        )
        .queue(
            Queue::quorum("quorum")
                .message_ttl(minutes(1))
                .expires(minutes(2))
                .max_length(10)
                .max_bytes(10_000)
                .delivery_limit(3)
                .single_active_consumer()
                .dead_letter()
                .bind_headers("headers", Match::All, [("x", 1)]),
        )
        .queue(Queue::classic("plain").dead_letter())
        .queue(Queue::stream("stream").max_age(minutes(60)).max_bytes(1_000_000).segment_bytes(500_000))
}
