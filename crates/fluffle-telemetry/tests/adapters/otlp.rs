//! Metrics at an OpenTelemetry collector.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluffle::telemetry::otlp::Otlp;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data, number_data_point::Value};

use super::{
    busy,
    collector::{Collector, attribute, metric},
    until,
};

#[actix::test]
async fn sums_gauges_and_whole_histograms_arrive_with_attributes_and_times() {
    let (_embedded, service, telemetry) = busy().await;
    let (collector, address) = Collector::start();
    let otlp = Otlp::from_env().endpoint(format!("http://{address}/v1/metrics")).resource("service.name", "shop");
    let export = otlp.every(Duration::from_millis(50)).start(&telemetry).unwrap();
    let request = collector.latest(|_| true);
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), Some("shop"));
    assert!(request.resource_metrics[0].schema_url.starts_with("https://opentelemetry.io/schemas/"));

    let settled = metric(&request, "fluffle.consume.settled").unwrap();
    let Some(Data::Sum(sum)) = &settled.data else { panic!("{settled:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
    let handled =
        sum.data_points.iter().find(|point| attribute(&point.attributes, "fluffle.outcome") == Some("handled"));
    let handled = handled.unwrap();
    assert_eq!(handled.value, Some(Value::AsInt(3)));
    assert_eq!(attribute(&handled.attributes, "fluffle.queue"), Some("q"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(handled.start_time_unix_nano < handled.time_unix_nano && handled.time_unix_nano <= now);

    let process = metric(&request, "messaging.process.duration").unwrap();
    assert_eq!(process.unit, "s");
    let Some(Data::Histogram(histogram)) = &process.data else { panic!("{process:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (3, 3));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(attribute(&point.attributes, "messaging.system"), Some("rabbitmq"));
    assert_eq!(attribute(&point.attributes, "messaging.operation.name"), Some("process"));

    let up = metric(&request, "fluffle.connection.up").unwrap();
    assert!(matches!(&up.data, Some(Data::Gauge(_))), "{up:?}");
    service.shutdown().await.unwrap();
    export.shutdown();
}

#[actix::test]
async fn a_collector_that_was_away_has_the_totals_when_it_is_back() {
    let (_embedded, service, telemetry) = busy().await;
    let (collector, address) = Collector::start();
    collector.refuse(true);
    let otlp = Otlp::from_env().endpoint(format!("http://{address}/v1/metrics")).every(Duration::from_millis(20));
    let export = otlp.start(&telemetry).unwrap();
    service.shutdown().await.unwrap();
    until(|| collector.refused() > 1).await;
    collector.refuse(false);
    let request = collector.latest(|_| true);
    let sent = metric(&request, "messaging.client.sent.messages").unwrap();
    let Some(Data::Sum(sum)) = &sent.data else { panic!("{sent:?}") };
    assert_eq!(sum.data_points[0].value, Some(Value::AsInt(3)));
    export.shutdown();
}

#[actix::test]
async fn the_last_values_are_sent_at_the_end_however_long_the_interval_is() {
    let (_embedded, service, telemetry) = busy().await;
    let (collector, address) = Collector::start();
    let otlp = Otlp::from_env().endpoint(format!("http://{address}/v1/metrics")).every(Duration::from_secs(3600));
    let export = otlp.start(&telemetry).unwrap();
    service.shutdown().await.unwrap();
    export.shutdown();
    collector.latest(|request| metric(request, "fluffle.consume.settled").is_some());
}
