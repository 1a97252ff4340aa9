//! The status server of a real service, over real sockets: what it answers, to whom, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod actions;
mod blocked;
mod client;
mod limits;
mod routes;
mod security;
mod service;
