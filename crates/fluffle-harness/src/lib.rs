//! A private RabbitMQ node, and private servers of what stands beside it, for tests and examples.
//!
//! [`RabbitMq::start`] boots a private node on loopback with its own ports, Erlang node and data folder. Any number of
//! nodes can run side by side, and none touches the system's broker. The owner can stop the node, kill it, start it
//! again on the same data, and close connections through it. Dropping the value cleans up.
//!
//! | you need | use | cost |
//! |---|---|---|
//! | a broker that the test may stop or kill | [`RabbitMq::start`] | a boot, 4 to 7 s |
//! | a vhost that nothing else uses | [`RabbitMq::shared`], [`RabbitMq::fresh_vhost`] | one boot, then 50 ms each |
//! | nodes of a cluster that the test may kill or part | [`Cluster::start`] | 10 to 20 s |
//! | a database that the test may stop or kill | [`Postgres::start`] | 1 to 2 s |
//! | metrics that are scraped and asked | [`Prometheus::start`], [`Pushgateway::start`] | below 1 s |
//! | a page in a browser | [`Browser::start`] | below 1 s |
//! | any broker | [`Broker::from_env_or_private`] | nothing with `AMQP_URL`, else a boot |
//!
//! Runs on Linux with `rabbitmq-server` from the distribution or from the RabbitMQ team, without systemd. If the
//! process is root, the node runs as the user `rabbitmq`; otherwise as the user of the process.
//!
//! Environment variables:
//!
//! - `AMQP_URL`: an existing broker to use.
//! - `FLUFFLE_KEEP_BROKER=1`: keep the nodes' folders for inspection.
//! - `FLUFFLE_RABBITMQ_BIN`, `FLUFFLE_POSTGRES_BIN`: the folders of RabbitMQ's scripts and PostgreSQL's programs.
//! - `FLUFFLE_HARNESS_NODE`: the folder of the node that `cargo xtask test` shares among test processes.

mod admin;
mod broker;
mod browser;
mod builder;
mod cluster;
mod error;
mod http;
mod install;
mod layout;
mod ports;
mod postgres;
mod process;
mod prometheus;
mod pushgateway;
mod rabbit;
mod remote;
mod shared;
mod tool;
mod vhost;
mod wait;

pub use admin::{Connection, QueueDepth};
pub use broker::Broker;
pub use browser::Browser;
pub use builder::{Builder, TlsFiles};
pub use cluster::{Cluster, ClusterBuilder, PartitionHandling, TcpProxy};
pub use error::HarnessError;
pub use install::is_installed;
pub use postgres::Postgres;
pub use prometheus::{Prometheus, promtool};
pub use pushgateway::Pushgateway;
pub use rabbit::RabbitMq;
pub use vhost::Vhost;

/// The variable that names the folder of a running node. [`RabbitMq::shared`] attaches to that node instead of starting
/// one per process.
pub const NODE_VAR: &str = "FLUFFLE_HARNESS_NODE";

/// The variable that names a broker to use instead of a private one, as an AMQP URI
/// (<https://www.rabbitmq.com/docs/uri-spec>).
pub const URL_VAR: &str = "AMQP_URL";

/// Whether `FLUFFLE_KEEP_BROKER=1` asks to keep the folder for inspection.
fn keep_folder() -> bool {
    std::env::var_os("FLUFFLE_KEEP_BROKER").is_some_and(|value| !value.is_empty() && value != "0")
}
