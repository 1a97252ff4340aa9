//! Metrics for the `metrics` facade, and so for whatever recorder the application has installed.

use std::collections::HashMap;

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};

use crate::{
    instrument::histogram::Counts,
    names::{Kind, Name},
    reading::{Point, Value},
    source::MetricSource,
};

/// The quantiles that stand for a histogram.
const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.99, "0.99"), (0.999, "0.999")];

/// Passes metrics on to the recorder of the [`metrics`](https://docs.rs/metrics) facade, under their Prometheus names.
///
/// A counter is a counter, a gauge a gauge. Counters of seconds are gauges, because the facade's counters are whole
/// numbers. The facade takes single values for a histogram, and there are none: it gets a counter `…_count`, a gauge
/// `…_sum`, and a gauge with the label `quantile` for the values since the call before. Where whole histograms matter,
/// use [`text`](crate::text) or [`otlp`](crate::otlp).
///
/// ```no_run
/// use fluffle_telemetry::{Telemetry, facade::Facade};
///
/// # async fn example(telemetry: Telemetry) {
/// let mut facade = Facade::new();
/// loop {
///     facade.pass_on(&telemetry);
///     tokio::time::sleep(std::time::Duration::from_secs(10)).await;
/// }
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Facade {
    /// Each histogram at the call before.
    earlier: HashMap<(&'static str, Vec<Box<str>>), Counts>,
    is_described: bool,
}

impl Facade {
    /// Has passed nothing on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes all values on, as they are now. Call it at intervals: it costs about as much as one scrape.
    pub fn pass_on(&mut self, source: &impl MetricSource) {
        if !std::mem::replace(&mut self.is_described, true) {
            crate::names::ALL.iter().for_each(|name| describe(name));
        }
        for family in source.read() {
            family.points.into_iter().for_each(|point| self.pass(family.name, point));
        }
    }

    fn pass(&mut self, name: &'static Name, point: Point) {
        let labels = labels(name, &point);
        match point.value {
            Value::Count(count) => counter!(name.prometheus, labels).absolute(count),
            Value::Number(number) => gauge!(name.prometheus, labels).set(number),
            Value::Counts(counts) => {
                counter!(format!("{}_count", name.prometheus), labels.clone()).absolute(counts.count());
                gauge!(format!("{}_sum", name.prometheus), labels.clone()).set(counts.sum);
                let key = (name.prometheus, point.labels);
                let recent = self.earlier.get(&key).map_or_else(|| counts.clone(), |earlier| counts.since(earlier));
                for (quantile, word) in QUANTILES {
                    let labels = [&labels[..], &[Label::new("quantile", word)]].concat();
                    // Without a value there is no quantile: the gauge keeps the last one.
                    if let Some(value) = recent.quantile(quantile) {
                        gauge!(name.prometheus, labels).set(value);
                    }
                }
                self.earlier.insert(key, counts);
            }
        }
    }
}

fn labels(name: &Name, point: &Point) -> Vec<Label> {
    name.labels.iter().zip(&point.labels).map(|(label, value)| Label::new(*label, value.to_string())).collect()
}

fn describe(name: &'static Name) {
    match name.kind {
        Kind::Counter if name.unit != "s" => describe_counter!(name.prometheus, name.help),
        _ => describe_gauge!(name.prometheus, name.help),
    }
}
