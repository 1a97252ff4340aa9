//! An AMQP 0-9-1 broker inside the process, for first runs and for tests. **It is not a production
//! broker**: messages live in memory, on one node, and are gone with the process; production is RabbitMQ.
//!
//! It speaks the protocol on loopback TCP, so any client (lapin, pika, Go's amqp091) talks to it as it is,
//! and an application's own tests run its real handlers through the real client, with nothing installed.
//! Its semantics are RabbitMQ's, down to the texts of its refusals.
//!
//! ```
//! use fluffle_broker::Broker;
//!
//! let broker = Broker::start()?;
//! println!("connect to {}", broker.url());
//! broker.stop()?; // durable queues and persistent messages stay
//! broker.start_again()?; // on the same port
//! # Ok::<(), fluffle_broker::BrokerError>(())
//! ```
//!
//! As a command, for other languages: `cargo run --release -p fluffle-broker -- --listen 127.0.0.1:5672`.
//!
//! # Known differences from RabbitMQ
//!
//! - Messages and entities survive [`Broker::stop`] and [`Broker::kill`], not the end of the process.
//! - Quorum queues are queues with a delivery count and limit: one node, no replicas.
//! - Streams, TLS, plugins, policies, permissions of users and the management API are not there.
//! - EXTERNAL has no certificate to look at: it accepts the name of any known user.

mod broker;
mod engine;
mod error;
mod protocol;
mod snapshot;
mod thread;

pub use self::{
    broker::{Broker, BrokerBuilder},
    error::BrokerError,
    snapshot::{ConnectionSnapshot, QueueSnapshot, Snapshot},
};
