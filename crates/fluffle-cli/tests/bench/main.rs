//! Tests of the program `fluffle bench`: its output and its exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod guarantees;
mod order;
mod running;
mod support;
