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
//! # What is there
//!
//! PLAIN, AMQPLAIN and EXTERNAL; virtual hosts; heartbeats; all of AMQP 0-9-1's methods that RabbitMQ has, and RabbitMQ's
//! own (confirms, nack, exchange-to-exchange bindings, alternate exchanges, cancel notification, direct reply-to,
//! sender-selected distribution by `CC` and `BCC`, transactions). Exchanges direct, fanout, topic and headers. Queues classic
//! and quorum, with `x-message-ttl`, `x-expires`, `x-max-length`, `x-max-length-bytes`, `x-overflow`,
//! `x-dead-letter-exchange` and `-routing-key`, `x-max-priority`, `x-single-active-consumer`, `x-delivery-limit`; consumers
//! with `x-priority`, prefetch of their own and of the channel, exclusive; the consumer timeout.
//!
//! # Limits
//!
//! | what | bound | past it |
//! |---|---|---|
//! | connections | 10,000 ([`BrokerBuilder::connection_max`]) | closed at once |
//! | handshake | 10 s ([`BrokerBuilder::handshake_timeout`]) | closed |
//! | channels of a connection | 2,047 | 530 |
//! | frame | 128 KiB ([`BrokerBuilder::frame_max`]) | 501 |
//! | message body | 128 MiB ([`BrokerBuilder::message_max`]) | 406, before it is received |
//! | unfinished messages of a connection | one message body together | 506 |
//! | tables and arrays in one another | 64 | 502 |
//! | deliveries waiting for a socket | 1 MiB | they stay in the queue |
//! | anything waiting for a socket | 8 MiB | the client's commands wait |
//!
//! Queues grow as the process's memory allows, a message by its body and some 220 bytes; `x-max-length` and
//! `x-max-length-bytes` bound them.
//!
//! # Known differences from RabbitMQ
//!
//! - Messages and entities survive [`Broker::stop`] and [`Broker::kill`], not the end of the process.
//! - Quorum queues are queues with a delivery count and limit: one node, no replicas.
//! - Streams are refused with 540.
//! - Clients that ask for AMQP 0-8 or 0-9 are served 0-9-1.
//! - Where RabbitMQ hangs up without a word, the client is told why: an unknown method or one that cannot be decoded (501), a
//!   malformed table (502), limits past those offered (530). A body longer than its header says is 501 at once.
//! - TLS, plugins, policies, users' permissions, memory alarms and the management API are not there.
//! - EXTERNAL has no certificate to look at: it accepts the name of any known user.
//! - An exchange type that does not exist is "invalid" if it is a word in lower case and "unknown" otherwise; to RabbitMQ it is
//!   invalid if its node's Erlang happens to use that name for anything.

mod ask;
mod broker;
mod engine;
mod error;
mod fault;
mod message;
mod protocol;
mod proxy;
mod snapshot;
mod thread;

pub use self::{
    broker::{Broker, BrokerBuilder},
    error::BrokerError,
    fault::{Direction, Event, Fault, FaultError, FaultHandle, Faults, FiredFault, Rule, Target},
    message::{QueuedMessage, Value},
    proxy::Proxy,
    snapshot::{ConnectionSnapshot, QueueSnapshot, Snapshot},
};
