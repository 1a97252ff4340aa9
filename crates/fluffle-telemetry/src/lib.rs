//! See why: metrics, traces, health and a live page of the supervision tree, for services built with Fluffle.

#[cfg(feature = "traces")]
pub mod traces;
