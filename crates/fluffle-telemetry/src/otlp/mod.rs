//! Metrics for OpenTelemetry, sent to a collector by OTLP over HTTP.
//!
//! OpenTelemetry's own instruments cannot pass on histograms that were summed up elsewhere, so this speaks the
//! protocol: <https://opentelemetry.io/docs/specs/otlp/>, with sums and histograms that are cumulative since the start
//! of the process. Names and units are those of [`names`](crate::names); a label `queue` is the attribute
//! `fluffle.queue`.

mod endpoint;
mod exporter;
mod request;

pub use endpoint::EndpointError;
pub use exporter::{Otlp, OtlpExport};
pub use request::encode;
