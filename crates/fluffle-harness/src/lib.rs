//! A RabbitMQ node of one's own, for tests and examples; and a PostgreSQL server.
//!
//! [`RabbitMq::start`] boots a private node on loopback: own ports, own Erlang node, own data folder, so that any number
//! can live side by side and none touches the system's broker. Its owner stops it, kills it, starts it again on the same data,
//! closes connections through it, and cleans up by dropping it.
//!
//! | wanted | use | cost |
//! |---|---|---|
//! | a broker that may be broken | [`RabbitMq::start`] | a boot, 4 to 7 s |
//! | a vhost nobody else uses | [`RabbitMq::shared`] and [`RabbitMq::fresh_vhost`] | one boot per process or test run, then about 50 ms a vhost |
//! | a database that may be broken | [`Postgres::start`] | 1 to 2 s |
//! | whatever broker there is | [`Broker::from_env_or_private`] | nothing with `AMQP_URL`, else a boot |
//!
//! Runs on Linux with `rabbitmq-server` from the distribution or from the RabbitMQ team, as root (the node then runs as the
//! user `rabbitmq`) or as anybody else (the node runs as that user), without systemd.
//!
//! Environment variables: `AMQP_URL` (an existing broker), `FLUFFLE_KEEP_BROKER=1` (nodes' folders stay for a post-mortem),
//! `FLUFFLE_RABBITMQ_BIN` and `FLUFFLE_POSTGRES_BIN` (where RabbitMQ's scripts and PostgreSQL's programs are), `FLUFFLE_HARNESS_NODE` (the folder of the node that
//! `cargo xtask test` shares among test processes).

mod admin;
mod broker;
mod builder;
mod error;
mod install;
mod layout;
mod ports;
mod postgres;
mod process;
mod rabbit;
mod remote;
mod shared;
mod vhost;
mod wait;

pub use admin::{Connection, QueueDepth};
pub use broker::Broker;
pub use builder::{Builder, TlsFiles};
pub use error::HarnessError;
pub use install::is_installed;
pub use postgres::Postgres;
pub use rabbit::RabbitMq;
pub use vhost::Vhost;

/// Names the folder of a running node for [`RabbitMq::shared`] to attach to, instead of starting one per process.
pub const NODE_VAR: &str = "FLUFFLE_HARNESS_NODE";

/// The broker to use instead of a private one, as an AMQP URI (<https://www.rabbitmq.com/docs/uri-spec>).
pub const URL_VAR: &str = "AMQP_URL";

/// `FLUFFLE_KEEP_BROKER=1`: leave the folder behind for a post-mortem.
fn keep_folder() -> bool {
    std::env::var_os("FLUFFLE_KEEP_BROKER").is_some_and(|value| !value.is_empty() && value != "0")
}
