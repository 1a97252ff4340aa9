//! The torture: publishers, consumers and handlers of all kinds run in a storm of faults drawn from a seed, and every
//! message is checked against a model of the promises.
//!
//! `docs/RELIABILITY.md` describes what it does, its model, what it cannot see, and what it has found. To test an
//! application's own handlers in a storm, use `fluffle::testing::Storm`.

pub mod args;
pub mod child;
pub mod damage;
pub mod fact;
pub mod foreign;
pub mod handlers;
pub mod id;
pub mod many;
pub mod model;
mod nodes;
pub mod place;
pub mod posts;
pub mod report;
pub mod run;
pub mod script;
pub mod stall;
pub mod stranger;
pub mod weather;
pub mod workload;
