//! A framework for services on RabbitMQ: your actix actors handle messages, and Fluffle does the rest.
//!
//! ```no_run
//! use fluffle::prelude::*;
//! # type Quake = String;
//! # type Alert = String;
//!
//! struct Alerts { out: Publisher<Alert> }
//!
//! impl Actor for Alerts { type Context = Context<Self>; }
//!
//! impl Handler<Delivery<Quake>> for Alerts {
//!     type Result = ResponseFuture<Result<(), Failure>>;
//!     fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
//!         let out = self.out.clone();
//!         Box::pin(async move {
//!             if quake.len() > 4 {
//!                 out.publish(quake.to_uppercase()).await?;  // resolves on the confirm; `?` = retry with backoff
//!             }
//!             Ok(())                                         // ack
//!         })
//!     }
//! }
//!
//! #[actix::main]
//! async fn main() -> Result<(), fluffle::Error> {
//!     let app = App::new(Broker::from_env_or_embedded()?)
//!         .topology(Topology::new()
//!             .exchange(Exchange::topic("quakes"))
//!             .exchange(Exchange::fanout("alerts"))
//!             .queue(Queue::quorum("strong").bind("quakes", "quake.strong.#").dead_letter())
//!             .queue(Queue::quorum("siren").bind("alerts", "")));
//!     let out = app.publisher::<Alert>(Route::exchange("alerts"));
//!     app.consume(Consume::queue("strong").prefetch(256).instances(2).guarantee(AtLeastOnce),
//!                 move || Alerts { out: out.clone() })       // a factory: a fresh actor after each crash
//!        .run_until_signal().await                           // cancel, finish work in hand, await confirms, close
//! }
//! ```
//!
//! Connections, channels, publishers and consumers are actors in one supervision tree. The tree restarts only the parts
//! that fail, with backoff. `docs/SEMANTICS.md` lists what each part promises.
//!
//! Fluffle logs with [`tracing`](https://docs.rs/tracing): `info` for events of a healthy service, `warn` for faults
//! from which it recovers by itself, `error` for those from which it cannot. lapin logs lost sockets, and every
//! returned message with its whole body; to switch that off, use a filter such as `info,lapin=off`.
//!
//! - [`App`] is the description of a service; [`Service`] is a running one.
//! - [`prelude`] has what the code of a service usually needs, actix's prelude included.
//! - [`testing`] has an embedded broker for your tests, which runs your handlers and can cause faults.
//! - [`amqp`] (for example [`Replay`](amqp::Replay)), [`supervise`], [`wire`], [`store`] and [`broker`] are the
//!   underlying crates, for features needed less often. Two more crates are separate: `fluffle-build` for `.proto`
//!   files, and `fluffle-outbox` for SQL databases.
//!
//! # Features
//!
//! A service builds what it names, if it depends on `fluffle` with `default-features = false`.
//!
//! | feature | default | what it has |
//! |---|---|---|
//! | `embedded` | yes | the embedded broker: [`Embedded`], [`testing`] |
//! | `json` | yes | [`wire::Json`], [`wire::SerdeJson`], and CloudEvents and others: [`wire::wrappers`] |
//! | `store` | yes | [`amqp::Journal`], [`amqp::SeenIds`] and [`amqp::Offsets`], in SQLite |
//! | `telemetry` | yes | [`telemetry`]: metrics, health, probes, a status page of the supervision tree |
//! | `traces` | no | `telemetry::traces`: spans of messages for OpenTelemetry |
//! | `bare` | no | `amqp::bare`, for tools: a connection of lapin |
//!
//! Without `json`, a message in JSON or in a format of others becomes a dead letter whose reason names the feature.
//!
//! Without `store`, a journal, ids and offsets cannot be opened. [`Consume::effectively_once`] and [`StreamReader`]
//! then take a store of the application's own, or of `fluffle-outbox`.
//!
//! [`Consume::effectively_once`]: amqp::Consume::effectively_once
//! [`StreamReader`]: amqp::StreamReader

#![cfg_attr(docsrs, feature(doc_cfg))]

mod app;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
#[cfg(feature = "embedded")]
pub mod testing;

pub use fluffle_amqp as amqp;
#[cfg(feature = "embedded")]
pub use fluffle_broker as broker;
pub use fluffle_store as store;
pub use fluffle_supervise as supervise;
#[cfg(feature = "telemetry")]
pub use fluffle_telemetry as telemetry;
pub use fluffle_wire as wire;

#[cfg(feature = "embedded")]
pub use crate::embedded::Embedded;
pub use crate::{app::App, error::Error};
pub use fluffle_amqp::Service;

/// The names that the code of a service usually needs, actix's prelude included.
pub mod prelude {
    pub use actix::prelude::*;
    pub use fluffle_amqp::{
        AtLeastOnce, AtMostOnce, Batching, Broker, BrokerSettings, CircuitBreaker, Confirms, Consume, ConsumeSettings,
        Delivery, DeliveryBatch, EndpointOrder, Exchange, Failure, Flush, Forwarder, Guarantee, ItemFailures, Journal,
        KillSwitch, MessageOptions, NotSent, OffsetStore, Offsets, OneOf, Overflow, PoolConfig, Prepared, PublishError,
        PublishErrorKind, Publisher, Queue, RateLimit, Republish, RequestError, RequestErrorKind, Requester, Retry,
        Route, RouteSettings, SeenIds, SeenStore, Service, Settled, StreamOffset, StreamReader, Tls, Topology, Window,
    };
    pub use fluffle_supervise::{Backoff, Intensity, SupervisedContext};
    pub use fluffle_wire::Gzip;

    pub use crate::App;
    #[cfg(feature = "embedded")]
    pub use crate::Embedded as _;
}
