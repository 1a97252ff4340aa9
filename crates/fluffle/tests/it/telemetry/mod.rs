//! What a service tells about itself: metrics, the ledger, and the picture for the status page.

mod ledger;
mod metrics;
mod pictures;
mod requests;
mod stores;

use fluffle::telemetry::{Telemetry, Value};

use crate::support::*;

/// The value of a metric: of a histogram, how many values it has. 0 if there is none.
pub(crate) fn value(telemetry: &Telemetry, name: &str, labels: &[&str]) -> f64 {
    let families = telemetry.read();
    let family = families.iter().find(|family| family.name.prometheus == name);
    let points = family.iter().flat_map(|family| &family.points);
    let wished = points.filter(|point| point.labels.iter().map(|label| &**label).eq(labels.iter().copied()));
    let number = |value: &Value| match value {
        Value::Count(count) => *count as f64,
        Value::Number(number) => *number,
        Value::Counts(counts) => counts.count() as f64,
        other => panic!("{other:?}"),
    };
    wished.map(|point| number(&point.value)).sum()
}

/// Waits until a metric has a value.
pub(crate) async fn has(telemetry: &Telemetry, name: &str, labels: &[&str], is_it: impl Fn(f64) -> bool) {
    until(&format!("{name} {labels:?}: {}", value(telemetry, name, labels)), || is_it(value(telemetry, name, labels)))
        .await;
}
