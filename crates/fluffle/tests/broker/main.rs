//! The framework on RabbitMQ nodes of the tests' own, which they kill, limit, or give certificates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fails;
mod limits;
mod log;
#[path = "../support/mod.rs"]
mod support;
mod tls;
