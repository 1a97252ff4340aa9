//! Tests of the program `fluffle doctor`, on RabbitMQ with and without its management plugin, and on the embedded
//! broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_days;
mod boot;
mod broken;
mod certificates;
mod client;
mod cluster;
mod conflicts;
mod run;
mod sound;
