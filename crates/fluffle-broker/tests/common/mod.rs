//! Shared by the tests: deadlines, and clients of both kinds.
#![allow(dead_code, unreachable_pub)]

pub mod raw;

use std::{future::Future, time::Duration};

use fluffle_broker::{Broker, Snapshot};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};

/// The deadline of each test and each wait.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test's future with a deadline.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test hangs") })
}

pub async fn connect(broker: &Broker) -> Connection {
    Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap()
}

pub async fn channel(broker: &Broker) -> Channel {
    connect(broker).await.create_channel().await.unwrap()
}

pub async fn durable(channel: &Channel, name: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
}

/// Publishes to a queue by its name, and awaits the confirm if the channel has them.
pub async fn publish(channel: &Channel, queue: &str, body: &[u8], persistent: bool) {
    let mode = if persistent { 2 } else { 1 };
    let properties = BasicProperties::default().with_delivery_mode(mode);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap().await.unwrap();
}

pub async fn consume(channel: &Channel, queue: &str) -> Consumer {
    channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await.unwrap()
}

/// Waits until the broker's state is as expected.
pub fn until(broker: &Broker, wished: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let start = std::time::Instant::now();
    loop {
        let snapshot = broker.snapshot().unwrap();
        if wished(&snapshot) {
            return snapshot;
        }
        assert!(start.elapsed() < DEADLINE, "the broker never got there: {snapshot:#?}");
        std::thread::yield_now();
    }
}
