//! Services that live on RabbitMQ: actix actors handle messages, Fluffle does the rest.
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
//!                 out.publish(quake.to_uppercase()).await?;  // resolves on the broker's confirm; `?` = retry with backoff
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
//!        .run_until_signal().await                           // cancel, finish what is in flight, flush confirms, close
//! }
//! ```
//!
//! Connections, channels, publishers and consumers are actors in one supervision tree that restarts what fails, with
//! backoff, and nothing else. What each promises is on one page: `docs/SEMANTICS.md`.
//!
//! What happens is told by [`tracing`](https://docs.rs/tracing): `info` for what a healthy service does, `warn` for what
//! it heals itself, `error` for what it cannot. lapin tells of lost sockets in its own words, and of every returned message
//! with its whole body: leave it out, for instance with the filter `info,lapin=off`.
//!
//! - [`App`]: what a service is made of; [`Service`]: the same, running.
//! - [`prelude`]: what a service's code usually needs, actix's prelude included.
//! - [`testing`]: a broker inside your tests, to run your handlers on and break.
//! - [`amqp`] ([`Replay`](amqp::Replay), say), [`supervise`], [`wire`], [`store`], [`broker`]: the crates underneath, for what
//!   is needed less often. Beside them: `fluffle-build` for `.proto` files, `fluffle-outbox` for SQL databases.
//!
//! # Features
//!
//! `embedded` (default): the broker inside the process, [`Embedded`] and [`testing`]. A service that only ever talks to
//! RabbitMQ can do without: `default-features = false`.

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
pub use fluffle_wire as wire;

#[cfg(feature = "embedded")]
pub use crate::embedded::Embedded;
pub use crate::{app::App, error::Error};
pub use fluffle_amqp::Service;

/// What a service's code usually needs, actix's prelude included.
pub mod prelude {
    pub use actix::prelude::*;
    pub use fluffle_amqp::{
        AtLeastOnce, AtMostOnce, Batching, Broker, CircuitBreaker, Confirms, Consume, Delivery, DeliveryBatch,
        Exchange, Failure, Flush, Forwarder, Guarantee, ItemFailures, Journal, KillSwitch, MessageOptions, NotSent,
        Overflow, PoolConfig, Prepared, PublishError, PublishErrorKind, Publisher, Queue, RateLimit, RequestError,
        RequestErrorKind, Requester, Retry, Route, SeenIds, SeenStore, Service, Settled, Tls, Topology, Window,
    };
    pub use fluffle_supervise::{Backoff, Intensity, SupervisedContext};
    pub use fluffle_wire::Gzip;

    pub use crate::App;
    #[cfg(feature = "embedded")]
    pub use crate::Embedded as _;
}
