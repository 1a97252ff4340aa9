//! See why: metrics, traces, health and a live page of the supervision tree, for services built with Fluffle.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod depths;
#[cfg(feature = "metrics-facade")]
pub mod facade;
mod insight;
mod instrument;
mod metrics;
pub mod names;
mod observing;
#[cfg(feature = "otlp")]
pub mod otlp;
mod reading;
mod sampling;
mod source;
pub mod status;
mod telemetry;
pub mod text;
#[cfg(feature = "traces")]
pub mod traces;

pub use crate::{
    instrument::histogram::Counts,
    metrics::Metrics,
    reading::{Family, Point, Value},
    source::MetricSource,
    telemetry::Telemetry,
};
