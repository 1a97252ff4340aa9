//! The framework on a cluster of three RabbitMQ nodes of the tests' own, which are killed and restarted under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dead_nodes;
mod load;
mod maintenance;
mod partitions;
mod rolling;
#[path = "../support/mod.rs"]
mod support;
