//! The torture: publishers, consumers and handlers that do all that handlers do, in a storm of faults drawn from a seed,
//! while every message is held against a model of what is promised.
//!
//! `docs/RELIABILITY.md` says what it does, what its model means, what it cannot see, and what it has found.
//! An application's own handlers are put through a storm with `fluffle::testing::Storm`.

pub mod args;
pub mod child;
pub mod fact;
pub mod foreign;
pub mod handlers;
pub mod id;
pub mod many;
pub mod model;
pub mod place;
pub mod posts;
pub mod report;
pub mod run;
pub mod script;
pub mod stall;
pub mod stranger;
pub mod weather;
pub mod workload;
