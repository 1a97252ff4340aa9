//! Metrics in a recorder of the `metrics` facade.

use fluffle::telemetry::facade::Facade;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::busy;

#[actix::test]
async fn a_recorder_has_counters_gauges_and_the_quantiles_of_what_is_new() {
    let (_embedded, service, telemetry) = busy().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut facade = Facade::new();
    metrics::with_local_recorder(&recorder, || facade.pass_on(&telemetry));
    let first = handle.render();
    let has = |text: &str, line: &str| assert!(text.lines().any(|one| one.starts_with(line)), "{line}\n{text}");
    has(&first, "fluffle_consume_settled_total{queue=\"q\",outcome=\"handled\"} 3");
    has(&first, "messaging_process_duration_seconds_count{queue=\"q\"} 3");
    has(&first, "messaging_process_duration_seconds{queue=\"q\",quantile=\"0.99\"}");
    has(&first, "fluffle_consume_in_hand{queue=\"q\"} 0");
    has(&first, "# TYPE fluffle_consume_settled_total counter");
    has(&first, "# TYPE fluffle_consume_busy_seconds_total gauge");
    has(&first, "# HELP fluffle_connection_up");
    metrics::with_local_recorder(&recorder, || facade.pass_on(&telemetry));
    has(&handle.render(), "fluffle_consume_settled_total{queue=\"q\",outcome=\"handled\"} 3");
    service.shutdown().await.unwrap();
}
