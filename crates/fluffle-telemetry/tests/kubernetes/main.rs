//! The manifests in `deploy/kubernetes`: they have the form that their APIs ask for, their
//! names and numbers agree with each other and with the framework, and a service runs with the rights that they give.
//!
//! Needs `promtool` and RabbitMQ (`cargo xtask test` installs both).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agreement;
mod broker;
mod manifests;
mod operators;
mod query;
mod schemas;
