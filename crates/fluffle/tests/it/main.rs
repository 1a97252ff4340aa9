//! The framework on a running broker, by the side that a test looks at: that of a consumer, a publisher, or the whole
//! service. `traps` has the tests that belong to no side: one for each place where systems like this one lose messages.
//!
//! Most modules run on RabbitMQ and on the broker inside: see `support/place.rs`, and `xtask/src/suite.rs` for those
//! that do not. Tests that kill or configure a RabbitMQ node are in the binary `broker`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod consume;
mod publish;
mod service;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod telemetry;
mod traps;
