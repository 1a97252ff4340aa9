//! An embedded AMQP 0-9-1 broker, for first runs and for tests. **It is not a production broker**: it keeps messages in
//! memory, on one node, and they are lost when the process ends. In production, use RabbitMQ.
//!
//! It speaks the protocol on loopback TCP, so any client (lapin, pika, Go's amqp091) can use it unchanged. The tests of
//! an application can therefore run its real handlers with the real client, without installing anything. It behaves
//! like RabbitMQ, down to the texts of its refusals.
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
//! # Supported features
//!
//! PLAIN, AMQPLAIN and EXTERNAL; virtual hosts; heartbeats; all of AMQP 0-9-1's methods that RabbitMQ has, and
//! RabbitMQ's own (confirms, nack, exchange-to-exchange bindings, alternate exchanges, cancel notification, direct
//! reply-to, sender-selected distribution by `CC` and `BCC`, transactions). Exchanges direct, fanout, topic and
//! headers, and `x-consistent-hash`, which in RabbitMQ is a plugin. Queues classic and quorum, with `x-message-ttl`,
//! `x-expires`, `x-max-length`, `x-max-length-bytes`, `x-overflow`, `x-dead-letter-exchange` and `-routing-key`,
//! `x-max-priority`, `x-single-active-consumer`, `x-delivery-limit`; consumers with `x-priority`, prefetch for each
//! consumer and for the channel, exclusive; the consumer timeout. Streams over AMQP 0-9-1, with `x-max-length-bytes`,
//! `x-max-age` and `x-stream-max-segment-size-bytes`, and consumers with `x-stream-offset`: see [Streams](#streams).
//!
//! # Limits
//!
//! | what | bound | if exceeded |
//! |---|---|---|
//! | connections | 10,000 ([`BrokerBuilder::connection_max`]) | a new one is closed at once |
//! | handshake | 10 s ([`BrokerBuilder::handshake_timeout`]) | closed |
//! | channels of a connection | 2,047 | 530 |
//! | frame | 128 KiB ([`BrokerBuilder::frame_max`]) | 501 |
//! | message body | 128 MiB ([`BrokerBuilder::message_max`]) | 406, before it is received |
//! | unfinished messages of a connection | together, the size of one message body | 506 |
//! | nesting of tables and arrays | 64 | 502 |
//! | deliveries waiting for a socket | 1 MiB | further ones stay in the queue |
//! | all output waiting for a socket | 8 MiB | the client's commands are not read |
//! | all messages together | 1 GiB ([`BrokerBuilder::memory_limit`]) | publishers are blocked |
//! | fault rules | 1,000 | [`FaultError::TooManyRules`] |
//! | history of faults | 10,000 | the oldest are dropped |
//!
//! A queued message takes its body and some 220 bytes of memory. `x-max-length` and `x-max-length-bytes` bound a
//! queue. `x-max-length-bytes` and one segment more bound a stream. A segment has 500 MB by default, so set
//! `x-stream-max-segment-size-bytes`, too. A stream without limits keeps every message until it is deleted, and in the
//! end the memory limit blocks all publishers.
//!
//! # Streams
//!
//! A stream follows RabbitMQ 3.10, which has rules that newer versions have not:
//!
//! - A dead letter for a stream is lost. Publish it to a queue, or publish a copy yourself. (Newer versions take it.)
//! - `basic.nack`, `basic.reject` and `basic.recover` of a delivery of a stream end the connection: 540, 540 and 541.
//! - Headers that are arrays or tables (`x-death`, `CC`), and the cluster id, are not kept. A decimal header ends the
//!   publisher's connection: 541.
//! - `x-stream-filter` and `x-stream-match-unfiltered` are ignored, as all unknown arguments are.
//! - `queue.declare-ok` shows no consumers, `queue.delete-ok` no messages.
//!
//! Offsets grow for ever, and have gaps: each segment but the first begins with an offset that has no message.
//! Retention removes whole segments, and only when a message begins a new segment; the last segment stays.
//!
//! RabbitMQ keeps messages in chunks: it writes those as one chunk that arrive while it is busy. **Here, each message
//! is a chunk of its own**, as it is in RabbitMQ if its publisher awaits each confirm. Therefore an `x-stream-offset`
//! of `last` starts at the last message, a timestamp starts at the first message that is not older, and no consumer
//! gets more deliveries than its prefetch. In RabbitMQ, `last` and a timestamp start at the beginning of a chunk, and
//! 3.10 delivers a chunk as a whole, even past the prefetch. A client must therefore be ready for earlier messages,
//! and for more of them.
//!
//! # Faults
//!
//! [`Broker::faults`] causes faults, by hand or by rules. A seed determines all randomness: the same seed, rules and
//! events cause the same faults. While no rule is set, an event costs a check of a few bits.
//!
//! ```
//! use std::time::Duration;
//!
//! use fluffle_broker::{Broker, Event, Fault, Rule, Target};
//!
//! let broker = Broker::builder().fault_seed(7).start()?;
//! let faults = broker.faults();
//! // By rule: refuse one message in ten for "orders"; cut connection "consume-0" after 100 acknowledgements.
//! let nacks = faults.inject(Rule::new(Fault::Nack).on_queue("orders").probability(0.1))?;
//! faults.inject(Rule::new(Fault::Cut).at(Event::Settled).on_connection("consume-0").after(100).times(1))?;
//! // By hand: an alarm, until it is healed.
//! let alarm = faults.strike(Fault::Block { reason: "low on disk".to_owned(), time: Duration::MAX }, Target::all())?;
//! alarm.heal()?;
//! // Heal everything, and print the faults that happened.
//! faults.heal_all()?;
//! println!("seed {}, {} nacks", faults.seed(), nacks.fired());
//! faults.history()?.iter().for_each(|fired| println!("{fired}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | fault | natural event | what the client sees | [`Proxy`] |
//! |---|---|---|---|
//! | [`Refuse`] | [`Accepted`] | its connection ends before any data | ✓ |
//! | [`HalfOpen`] | `Accepted` | no more data, not even heartbeats; after healing, a reset | ✓ |
//! | [`Cut`] | [`FrameIn`] | the end of its connection, without a reason | ✓ |
//! | [`Stall`] | `FrameIn` | no data for a time | ✓ |
//! | [`Delay`] | `Accepted` | everything takes longer | ✓ |
//! | [`Slow`] | `Accepted` | few bytes a second; its own writes wait | ✓ |
//! | [`CorruptFrame`] | [`FrameOut`] | a frame with a wrong end octet; its connection is unusable then | |
//! | [`CloseConnection`] | `FrameIn` | `connection.close` with the code | |
//! | [`CloseChannel`] | [`Published`] | `channel.close` with the code; other consumers get its unacked deliveries | |
//! | [`DropConfirm`] | `Published` | no confirm, although it is in the queue; others are confirmed one by one | |
//! | [`DelayConfirm`] | `Published` | the confirm comes later, after those of other messages | |
//! | [`Nack`] | `Published` | `basic.nack`; the message is not in the queue | |
//! | [`Return`] | `Published` | `basic.return` with 312, then the confirm; the message is not in the queue | |
//! | [`CancelConsumer`] | [`Delivered`] | `basic.cancel`, or nothing if the client lacks that capability | |
//! | [`Block`] | `Published` | `connection.blocked` when it publishes next, `connection.unblocked` at the end | |
//! | [`Restart`] | `FrameIn` | 320 CONNECTION_FORCED, then a closed port for a time | |
//! | [`Crash`] | `FrameIn` | the end of its connection, then a closed port for a time | |
//!
//! [`Refuse`]: Fault::Refuse
//! [`Accepted`]: Event::Accepted
//! [`HalfOpen`]: Fault::HalfOpen
//! [`Cut`]: Fault::Cut
//! [`FrameIn`]: Event::FrameIn
//! [`Stall`]: Fault::Stall
//! [`Delay`]: Fault::Delay
//! [`Slow`]: Fault::Slow
//! [`CorruptFrame`]: Fault::CorruptFrame
//! [`FrameOut`]: Event::FrameOut
//! [`CloseConnection`]: Fault::CloseConnection
//! [`CloseChannel`]: Fault::CloseChannel
//! [`Published`]: Event::Published
//! [`DropConfirm`]: Fault::DropConfirm
//! [`DelayConfirm`]: Fault::DelayConfirm
//! [`Nack`]: Fault::Nack
//! [`Return`]: Fault::Return
//! [`CancelConsumer`]: Fault::CancelConsumer
//! [`Delivered`]: Event::Delivered
//! [`Block`]: Fault::Block
//! [`Restart`]: Fault::Restart
//! [`Crash`]: Fault::Crash
//!
//! A fault without [`Rule::at`] happens at its natural event. [`Settled`](Event::Settled) and [`Opened`](Event::Opened)
//! are the natural event of no fault; choose them with [`Rule::at`]. The faults marked ✓ also work in [`Proxy`], in
//! front of any broker, such as a real RabbitMQ.
//!
//! # Known differences from RabbitMQ
//!
//! - Messages and entities survive [`Broker::stop`] and [`Broker::kill`], but not the end of the process.
//! - Quorum queues are queues with a delivery count and limit: one node, no replicas.
//! - Streams have one replica, and each message is a chunk: see [Streams](#streams). `queue.declare-ok` counts their
//!   messages at once, RabbitMQ within 5 s. Sizes of segments are estimates, so the message that begins a new segment
//!   may be another. A full segment ends with the next message, in RabbitMQ also when a consumer starts. A consumer
//!   whose place was removed reads on at the first message there is; in RabbitMQ it reads the rest of its segment
//!   first. There is no stream protocol, so there are no names of publishers (deduplication), no super streams, and no
//!   stored offsets.
//! - Clients that ask for AMQP 0-8 or 0-9 are served 0-9-1.
//! - In two cases RabbitMQ closes the connection without a reason, and this broker gives one: an unknown method (501),
//!   and limits above those offered (530). A body longer than its header says is refused with 501 at once.
//! - Some input makes one of RabbitMQ's own processes crash. This broker then shows the client the same result, 541 or
//!   the end of its connection, with three exceptions:
//!   - If an `x-death` header contains items that are no tables, or a count that is no integer, RabbitMQ's queue
//!     process crashes at each attempt to dead-letter the message, and the message stays. This broker leaves out such
//!     an item, and starts the count again.
//!   - Binding arguments some 20,000 levels deep end RabbitMQ's whole node. This broker accepts them.
//!   - A queue type that is not UTF-8 is refused with 541 by RabbitMQ, and with 406 by this broker.
//! - A refusal that repeats an array or a table shows `[...]` instead.
//! - A consistent-hash exchange uses a different hash than RabbitMQ's, so it sends a value to another queue. It keeps
//!   the numbers of its queues over a restart. Weights are below 2^64.
//! - There is no TLS, no other plugin, and there are no policies, user permissions, disk alarms or management API.
//! - The memory alarm counts messages, not the memory of the process, and ends when a tenth of the limit is free again.
//! - `x-death` in the format before RabbitMQ 3.5, with one entry for each death, is not summed up.
//! - EXTERNAL checks no certificate: it accepts the name of any known user.
//! - A missing exchange type is "invalid" if it is a word in lower case, and "unknown" otherwise. RabbitMQ calls it
//!   invalid if its Erlang node already uses that name as an atom.

mod ask;
mod broker;
mod engine;
mod error;
mod fault;
mod keys;
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
