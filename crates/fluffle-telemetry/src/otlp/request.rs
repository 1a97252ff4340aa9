//! Metrics as the bytes of an export request.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;

use crate::{
    names::{self, Kind, Name, SCHEMA_URL},
    reading::{Family, Point, Value},
    source::MetricSource,
};

/// The body of a `POST /v1/metrics` with the content type `application/x-protobuf`: for HTTP clients of your own, for
/// example one with TLS. `resource` describes the process, for example `service.name`.
#[must_use]
pub fn encode(source: &impl MetricSource, resource: &BTreeMap<String, String>) -> Vec<u8> {
    let (since, now) = (nanoseconds(source.since()), nanoseconds(SystemTime::now()));
    let metrics = source.read().iter().map(|family| metric(family, since, now)).collect();
    let scope = InstrumentationScope {
        name: "fluffle".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let attributes = resource.iter().map(|(key, value)| attribute(key.clone(), value)).collect();
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: SCHEMA_URL.to_owned() }],
            schema_url: SCHEMA_URL.to_owned(),
        }],
    };
    request.encode_to_vec()
}

fn metric(family: &Family, since: u64, now: u64) -> Metric {
    let name = family.name;
    let numbers = || family.points.iter().filter_map(|point| number(name, point, since, now)).collect();
    let data = match name.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: family.points.iter().filter_map(|point| histogram(name, point, since, now)).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
    };
    Metric {
        name: name.otel.to_owned(),
        description: name.help.to_owned(),
        unit: name.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(name: &Name, point: &Point, since: u64, now: u64) -> Option<NumberDataPoint> {
    let value = match point.value {
        Value::Count(count) => number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
        Value::Number(number) => number_data_point::Value::AsDouble(number),
        Value::Counts(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(name, point),
        // A gauge has no start.
        start_time_unix_nano: if name.kind == Kind::Gauge { 0 } else { since },
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(name: &Name, point: &Point, since: u64, now: u64) -> Option<HistogramDataPoint> {
    let Value::Counts(counts) = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(name, point),
        start_time_unix_nano: since,
        time_unix_nano: now,
        count: counts.count(),
        sum: Some(counts.sum),
        bucket_counts: counts.counts.clone(),
        explicit_bounds: counts.bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

/// The labels; and of a metric of the conventions, what these require of every metric.
fn attributes(name: &Name, point: &Point) -> Vec<KeyValue> {
    let labels = name.labels.iter().zip(&point.labels);
    let mut attributes: Vec<_> = labels.map(|(label, value)| attribute(format!("fluffle.{label}"), value)).collect();
    if name.otel.starts_with("messaging.") {
        let publishes = [names::SENT.otel, names::PUBLISH_DURATION.otel].contains(&name.otel);
        let operation = if publishes { "publish" } else { "process" };
        attributes.push(attribute("messaging.system".to_owned(), "rabbitmq"));
        attributes.push(attribute("messaging.operation.name".to_owned(), operation));
    }
    attributes
}

fn attribute(key: String, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key, value: Some(value), ..KeyValue::default() }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
