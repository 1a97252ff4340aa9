//! OpenMetrics 1.0 (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>).

use std::fmt::Write;

use crate::{
    names::Kind,
    reading::{Family, Value},
    text::writing::{Bounds, Number, histogram, line},
};

/// The `Content-Type` of [`openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics in the text format of OpenMetrics: units are said, a counter's family has its name without `_total`, and the
/// text has an end, so that half of it is not taken for all.
///
/// ```
/// use fluffle_telemetry::{Metrics, text};
///
/// assert!(text::openmetrics(&Metrics::new().read()).ends_with("# EOF\n"));
/// ```
#[must_use]
pub fn openmetrics(families: &[Family]) -> String {
    let (mut text, mut bounds) = (String::new(), Bounds::default());
    for Family { name, points } in families {
        let family = name.prometheus.strip_suffix("_total").unwrap_or(name.prometheus);
        let suffix = if name.kind == Kind::Counter { "_total" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE {family} {}", name.kind.as_str());
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit {
            let _ = writeln!(text, "# UNIT {family} {unit}");
        }
        let _ = writeln!(text, "# HELP {family} {}", name.help);
        for point in points {
            let labels = &point.labels;
            match &point.value {
                Value::Count(count) => line(&mut text, family, suffix, name.labels, labels, count),
                Value::Number(number) => line(&mut text, family, suffix, name.labels, labels, &Number(*number)),
                Value::Counts(counts) => histogram(&mut text, &mut bounds, name, labels, counts),
            }
        }
    }
    text.push_str("# EOF\n");
    text
}
