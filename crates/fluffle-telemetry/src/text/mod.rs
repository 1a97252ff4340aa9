//! Metrics as text, for Prometheus and for whatever reads its formats.

mod openmetrics;
mod prometheus;
mod writing;

pub use openmetrics::{OPENMETRICS, openmetrics};
pub use prometheus::{PROMETHEUS, prometheus};
