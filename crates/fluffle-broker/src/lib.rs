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
//! sender-selected distribution by `CC` and `BCC`, transactions). Exchanges direct, fanout, topic and headers, and
//! `x-consistent-hash`, which RabbitMQ has by a plugin. Queues classic
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
//! | all messages together | 1 GiB ([`BrokerBuilder::memory_limit`]) | publishers are blocked |
//! | fault rules | 1,000 | [`FaultError::TooManyRules`] |
//! | history of faults | 10,000 | the oldest are forgotten |
//!
//! A queued message takes its body and some 220 bytes; `x-max-length` and `x-max-length-bytes` bound a queue.
//!
//! # Faults
//!
//! [`Broker::faults`] makes things go wrong, by hand or by rules with a seed of chance: same seed, same rules, same events,
//! same faults. Without a rule an event costs one look at a few bits.
//!
//! ```
//! use std::time::Duration;
//!
//! use fluffle_broker::{Broker, Event, Fault, Rule, Target};
//!
//! let broker = Broker::builder().fault_seed(7).start()?;
//! let faults = broker.faults();
//! // By rule: one message in ten for the queue is refused; the connection named so is cut after 100 acknowledgements.
//! let nacks = faults.inject(Rule::new(Fault::Nack).on_queue("orders").probability(0.1))?;
//! faults.inject(Rule::new(Fault::Cut).at(Event::Settled).on_connection("consume-0").after(100).times(1))?;
//! // By hand: an alarm, for as long as it takes.
//! let alarm = faults.strike(Fault::Block { reason: "low on disk".to_owned(), time: Duration::MAX }, Target::all())?;
//! alarm.heal()?;
//! // All is well again, and the log says what was not.
//! faults.heal_all()?;
//! println!("seed {}, {} nacks", faults.seed(), nacks.fired());
//! faults.history()?.iter().for_each(|fired| println!("{fired}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | fault | natural event | what the client sees | [`Proxy`] |
//! |---|---|---|---|
//! | [`Refuse`](Fault::Refuse) | [`Accepted`](Event::Accepted) | its connection ends before a word is said | ✓ |
//! | [`HalfOpen`](Fault::HalfOpen) | `Accepted` | nothing any more, no heartbeat either; healed: a reset | ✓ |
//! | [`Cut`](Fault::Cut) | [`FrameIn`](Event::FrameIn) | the end of its connection, and no reason | ✓ |
//! | [`Stall`](Fault::Stall) | `FrameIn` | nothing for a time | ✓ |
//! | [`Delay`](Fault::Delay) | `Accepted` | everything takes longer | ✓ |
//! | [`Slow`](Fault::Slow) | `Accepted` | few bytes a second; its own writes wait | ✓ |
//! | [`CorruptFrame`](Fault::CorruptFrame) | [`FrameOut`](Event::FrameOut) | a frame with a wrong end: its connection cannot go on | |
//! | [`CloseConnection`](Fault::CloseConnection) | `FrameIn` | `connection.close` with the code | |
//! | [`CloseChannel`](Fault::CloseChannel) | [`Published`](Event::Published) | `channel.close` with the code; its unacknowledged deliveries go to others | |
//! | [`DropConfirm`](Fault::DropConfirm) | `Published` | no confirm for the message, which is in the queue; those for others are single | |
//! | [`DelayConfirm`](Fault::DelayConfirm) | `Published` | the confirm later, after others | |
//! | [`Nack`](Fault::Nack) | `Published` | `basic.nack`; the message is not in the queue | |
//! | [`Return`](Fault::Return) | `Published` | `basic.return` with 312, then the confirm; the message is not in the queue | |
//! | [`CancelConsumer`](Fault::CancelConsumer) | [`Delivered`](Event::Delivered) | `basic.cancel`, or without that capability nothing | |
//! | [`Block`](Fault::Block) | `Published` | `connection.blocked` when it publishes next, `connection.unblocked` in the end | |
//! | [`Restart`](Fault::Restart) | `FrameIn` | 320 CONNECTION_FORCED, then a closed port for a time | |
//! | [`Crash`](Fault::Crash) | `FrameIn` | the end of its connection, then a closed port for a time | |
//!
//! [`Settled`](Event::Settled) and [`Opened`](Event::Opened) are nobody's natural event; [`Rule::at`] chooses them.
//! [`Proxy`] has the marked ones for any broker, a real RabbitMQ too.
//!
//! # Known differences from RabbitMQ
//!
//! - Messages and entities survive [`Broker::stop`] and [`Broker::kill`], not the end of the process.
//! - Quorum queues are queues with a delivery count and limit: one node, no replicas.
//! - Streams are refused with 540.
//! - Clients that ask for AMQP 0-8 or 0-9 are served 0-9-1.
//! - Where RabbitMQ hangs up without a word, the client is told why: an unknown method (501), limits past those offered
//!   (530). A body longer than its header says is 501 at once.
//! - What a client sends may end one of RabbitMQ's own processes. This broker does what the client sees of that, 541 or
//!   the end of its connection, with three exceptions. Items of an `x-death` header that are no tables, or a count that
//!   is no integer, end the process of the queue at each dead letter, and the message stays; here such an item is left
//!   out, and the count begins anew. Arguments of a binding that are some 20,000 levels deep end RabbitMQ's whole node;
//!   here they are taken. A queue type that is not UTF-8 is 541 there and 406 here.
//! - A refusal that repeats an array or a table shows `[...]` for it.
//! - A consistent-hash exchange sends a value to another queue than RabbitMQ's does, for it hashes otherwise, and numbers its
//!   queues as before after a restart; weights are below 2^64.
//! - TLS, other plugins, policies, users' permissions, disk alarms and the management API are not there.
//! - The memory alarm counts messages, not the process's memory, and ends when a tenth of the limit is free again.
//! - `x-death` as RabbitMQ wrote it before 3.5, one entry for each death, is not summed up.
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
