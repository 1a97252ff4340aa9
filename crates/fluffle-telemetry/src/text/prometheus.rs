//! Prometheus's own text format, version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write;

use crate::{
    reading::{Family, Value},
    text::writing::{Bounds, Number, histogram, line},
};

/// The `Content-Type` of [`prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics in Prometheus's text format.
///
/// ```
/// use fluffle_telemetry::{Metrics, text};
///
/// assert!(text::prometheus(&Metrics::new().read()).contains("# TYPE fluffle_build_info gauge"));
/// ```
#[must_use]
pub fn prometheus(families: &[Family]) -> String {
    let (mut text, mut bounds) = (String::new(), Bounds::default());
    for Family { name, points } in families {
        let (prometheus, help, kind) = (name.prometheus, name.help, name.kind.as_str());
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {prometheus} {help}\n# TYPE {prometheus} {kind}");
        for point in points {
            let labels = &point.labels;
            match &point.value {
                Value::Count(count) => line(&mut text, prometheus, "", name.labels, labels, count),
                Value::Number(number) => line(&mut text, prometheus, "", name.labels, labels, &Number(*number)),
                Value::Counts(counts) => histogram(&mut text, &mut bounds, name, labels, counts),
            }
        }
    }
    text
}
