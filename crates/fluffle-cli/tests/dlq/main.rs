//! Tests of the program `fluffle dlq`, on RabbitMQ and on the embedded broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod discarding;
mod hostile;
mod killed;
mod limits;
mod many;
mod page;
mod replaying;
mod seeing;
mod support;
