//! What Prometheus makes of a service: its text, the rules and the dashboard in `deploy/`, and a job that pushes.
//!
//! Needs `prometheus`, `promtool` and `prometheus-pushgateway` (`cargo xtask test` installs them), and no RabbitMQ.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod busy;
mod dashboard;
mod deploy;
mod job;
mod rules;
mod text;
