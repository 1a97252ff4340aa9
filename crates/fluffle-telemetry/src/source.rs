//! The trait through which others read what is measured.

use std::time::SystemTime;

use crate::reading::Family;

/// Something whose metrics can be read: a [`Telemetry`](crate::Telemetry), or a [`Metrics`](crate::Metrics) alone.
/// Write an adapter for your own registry against this.
///
/// ```
/// use fluffle_telemetry::{MetricSource, Value};
///
/// fn print(source: &impl MetricSource) {
///     for family in source.read() {
///         for point in &family.points {
///             let labels = family.name.labels.iter().zip(&point.labels).collect::<Vec<_>>();
///             match &point.value {
///                 Value::Count(count) => println!("{} {labels:?} {count}", family.name.otel),
///                 Value::Number(number) => println!("{} {labels:?} {number}", family.name.otel),
///                 Value::Counts(counts) => println!("{} {labels:?} {}", family.name.otel, counts.count()),
///                 _ => {}
///             }
///         }
///     }
/// }
/// print(&fluffle_telemetry::Telemetry::new());
/// ```
pub trait MetricSource: Send + Sync + 'static {
    /// The values at this moment. Waits for no thread of the service.
    fn read(&self) -> Vec<Family>;

    /// When counting began: the counters were 0.
    fn since(&self) -> SystemTime;
}
