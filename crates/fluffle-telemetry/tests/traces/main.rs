//! Spans of messages as an OpenTelemetry collector receives them, over OTLP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod collector;
mod connected;
mod service;
mod spans;
