//! Tests of the program `fluffle topology`, on RabbitMQ with and without the management API, and on the broker inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod documents;
mod inside;
mod over_amqp;
mod support;
