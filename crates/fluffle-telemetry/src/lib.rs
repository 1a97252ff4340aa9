//! See why: metrics, traces, health and a live page of the supervision tree, for services built with Fluffle.

mod depths;
mod insight;
mod instrument;
mod metrics;
pub mod names;
mod observing;
mod reading;
mod sampling;
pub mod status;
mod telemetry;
pub mod text;
#[cfg(feature = "traces")]
pub mod traces;

pub use crate::{
    instrument::histogram::Counts,
    metrics::Metrics,
    reading::{Family, Point, Value},
    telemetry::Telemetry,
};
