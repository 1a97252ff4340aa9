//! Tests of `fluffle top`: on RabbitMQ with and without the management API, on the embedded broker, and on a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod printed;
mod screen;
mod support;
mod terminal;
