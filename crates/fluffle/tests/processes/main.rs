//! Several processes of one service, which come, go and are killed, on one RabbitMQ and one PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod effects;
mod growing;
mod poison;
mod relays;
mod service_of_four;
#[path = "../support/mod.rs"]
mod support;
