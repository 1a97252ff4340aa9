//! Tests of the subcommands that show, send and explain messages: on RabbitMQ and on the embedded broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod explain;
mod publish;
mod support;
mod tail;
