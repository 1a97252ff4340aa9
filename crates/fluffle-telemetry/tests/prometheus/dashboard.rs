//! The dashboard: its queries are asked of a real Prometheus that scrapes a service to which everything has happened.

use std::collections::{BTreeMap, BTreeSet};

use fluffle_telemetry::names::{self, Kind};
use serde_json::Value;

use crate::{
    busy::Busy,
    deploy::{Deployed, read},
};

/// Longer than a test takes, so that a rate sees all of it.
const RATE_INTERVAL: &str = "5m";

/// Metrics whose value is 0 in a service that is well, or that this test does not provoke. Their queries have samples.
const MAY_BE_ZERO: [(&str, &str); 10] = [
    ("fluffle_consume_replies_unroutable_total", "the requesters are there to take their answers"),
    ("fluffle_ledger_imbalance", "no message is lost from the books"),
    ("1 - fluffle_connection_up", "the connections are back"),
    ("fluffle_consumer_state{", "the consumers are back, and no breaker is open"),
    ("fluffle_clock_skew_total", "one process has one clock"),
    ("fluffle_telemetry_series_folded_total", "three queues are not too many"),
    ("fluffle_consume_in_hand", "everything is settled"),
    ("fluffle_consume_waiting", "everything is settled"),
    ("fluffle_publish_outstanding", "everything is confirmed"),
    ("fluffle_publish_in_flight", "everything is confirmed"),
];

/// The same for metrics that are 0 at rest, by the title of the panel.
const ZERO_AT_REST: [(&str, &str); 5] = [
    ("Oldest in a store", "everything is confirmed"),
    ("Journals", "everything is confirmed"),
    ("Bytes in journals", "everything is confirmed"),
    ("Fullest mailboxes", "the actors have taken everything"),
    ("Blocked", "the broker reads again, and its alarm was short"),
];

/// Metrics without a panel, and why.
const NO_PANEL: [(&str, &str); 5] = [
    ("fluffle_consume_deliveries_settled_total", "the ledger counts deliveries with it; the panels count messages"),
    ("fluffle_stream_offsets_removed_total", "most services read no stream"),
    ("fluffle_stream_offset_next", "most services read no stream"),
    ("fluffle_stream_offset_delivered", "most services read no stream"),
    ("fluffle_stream_offset_kept", "most services read no stream"),
];

/// A query of a panel.
struct Target {
    panel: String,
    kind: String,
    expr: String,
    legend: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/fluffle.json")).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

fn targets(dashboard: &Value) -> Vec<Target> {
    let of_panel = |panel: &Value| {
        let (title, kind) = (text(&panel["title"]), text(&panel["type"]));
        let targets = panel["targets"].as_array().unwrap().iter().map(move |target| Target {
            panel: title.clone(),
            kind: kind.clone(),
            expr: text(&target["expr"]),
            legend: text(&target["legendFormat"]),
        });
        targets.collect::<Vec<_>>()
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

/// The names of labels in a legend such as `{{queue}} {{stage}}`.
fn labels_in(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).map(|part| part.split_once("}}").unwrap().0).collect()
}

/// The metrics that an expression names, each with what stands before the name.
fn metrics_in(expr: &str) -> Vec<(&'static names::Name, &str)> {
    let mut found = Vec::new();
    for name in names::ALL {
        for (at, _) in expr.match_indices(name.prometheus) {
            let behind = &expr[at + name.prometheus.len()..];
            let ends = ["{", "_bucket{", "_sum{", "_count{"].iter().any(|end| behind.starts_with(end));
            if ends && !expr[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                found.push((*name, &expr[..at]));
            }
        }
    }
    found
}

/// The values of each variable, as Grafana asks Prometheus for them, in its form for regular expressions.
fn variables(dashboard: &Value, deployed: &Deployed) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "datasource" {
            continue;
        }
        let query = substituted(&text(&variable["query"]["query"]), &values);
        let inside = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')')).unwrap();
        let (series, label) = inside.rsplit_once(", ").unwrap();
        let samples = deployed.samples(&format!("count by ({label}) ({series})")).unwrap();
        let found: Vec<_> = samples.iter().map(|(labels, _)| text(&labels[label])).collect();
        assert!(!found.is_empty(), "the variable {} has no values: {query}", variable["name"]);
        values.insert(text(&variable["name"]), format!("({})", found.join("|")));
    }
    values
}

fn substituted(expr: &str, values: &BTreeMap<String, String>) -> String {
    let mut expr = expr.replace("$__rate_interval", RATE_INTERVAL);
    for (name, value) in values {
        expr = expr.replace(&format!("${name}"), value);
    }
    expr
}

#[actix::test]
async fn every_query_of_every_panel_is_answered_with_what_has_happened() {
    let busy = Busy::start().await;
    let deployed = Deployed::start(busy.server.address());
    busy.provoke().await;
    busy.broker.settled(&busy.service).await.unwrap();
    busy.leave_in_outbox().await;
    let dashboard = dashboard();
    // The last of what was provoked is scraped.
    let last = "fluffle_consumer_transitions_total{to=\"paused\"} == 1";
    deployed.wait_for(last, |samples| !samples.is_empty()).unwrap();
    deployed.wait_for("fluffle_outbox_pending == 1", |samples| !samples.is_empty()).unwrap();
    let values = variables(&dashboard, &deployed);
    let mut wrong = Vec::new();
    for Target { panel, expr, legend, .. } in targets(&dashboard) {
        let expr = substituted(&expr, &values);
        assert!(!expr.contains('$'), "{panel}: a variable of {expr} does not exist");
        let samples = match deployed.samples(&expr) {
            Ok(samples) => samples,
            Err(error) => {
                wrong.push(format!("{panel}: {error}"));
                continue;
            }
        };
        let has = |metric: &&(&str, &str)| expr.contains(metric.0);
        let finite: Vec<_> = samples.iter().filter(|(_, value)| value.is_finite()).collect();
        let may_be_zero = MAY_BE_ZERO.iter().any(|one| has(&one)) || ZERO_AT_REST.iter().any(|one| one.0 == panel);
        if finite.is_empty() {
            wrong.push(format!("{panel}: no answer to {expr}: {samples:?}"));
        } else if !may_be_zero && !finite.iter().any(|(_, value)| *value > 0.0) {
            wrong.push(format!("{panel}: nothing but zero in the answer to {expr}: {samples:?}"));
        }
        for label in labels_in(&legend) {
            if !samples.iter().all(|(labels, _)| labels[label].is_string()) {
                wrong.push(format!("{panel}: the legend shows {label}, which is no label of {expr}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    busy.service.shutdown().await.unwrap();
}

#[test]
fn counters_are_shown_as_rates_over_grafanas_interval_and_histograms_as_quantiles() {
    for Target { panel, kind, expr, .. } in targets(&dashboard()) {
        let metrics = metrics_in(&expr);
        assert!(!metrics.is_empty(), "{panel}: {expr} names no metric");
        let ranges = expr.split('[').skip(1).map(|part| part.split_once(']').unwrap().0);
        assert!(ranges.clone().all(|range| range == "$__rate_interval"), "{panel}: another interval in {expr}");
        for (name, before) in metrics {
            let is_rate = before.ends_with("rate(");
            match name.kind {
                Kind::Counter if kind == "stat" => assert!(!is_rate, "{panel}: a stat shows the total: {expr}"),
                // A counter whose labels are known only when something happens begins with its first event: until the
                // interval is over, its value is its increase.
                Kind::Counter => assert!(
                    is_rate || before.ends_with("increase(") || before.ends_with("((") || before.ends_with("unless "),
                    "{panel}: {} is a counter: {expr}",
                    name.prometheus
                ),
                Kind::Gauge => assert!(!is_rate, "{panel}: {} is a gauge: {expr}", name.prometheus),
                _ => assert!(is_rate, "{panel}: {} is a histogram: {expr}", name.prometheus),
            }
        }
        if expr.contains("_bucket{") {
            let is_quantile = expr.starts_with("histogram_quantile(0.") && expr.contains("sum by (le, ");
            assert!(is_quantile, "{panel}: {expr}");
        }
    }
}

#[test]
fn every_metric_has_a_panel() {
    let targets = targets(&dashboard());
    let shown: BTreeSet<_> =
        targets.iter().flat_map(|target| metrics_in(&target.expr)).map(|one| one.0.prometheus).collect();
    for name in names::ALL {
        let is_left_out = NO_PANEL.iter().any(|(left_out, _)| *left_out == name.prometheus);
        assert_ne!(shown.contains(name.prometheus), is_left_out, "{}", name.prometheus);
    }
}

#[test]
fn the_dashboard_is_one_for_grafana_10_and_explains_each_panel() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38);
    let rows = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "row");
    let rows: Vec<_> = rows.map(|row| text(&row["title"])).collect();
    assert_eq!(rows, ["The promise", "Queues", "Publishers", "Connections", "Supervision", "Stores"]);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is too wide");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} covers another panel");
        }
    }
    for panel in panels(&dashboard) {
        let (title, description) = (text(&panel["title"]), text(&panel["description"]));
        assert!(description.len() > 20 && description.ends_with('.'), "{title}: {description}");
        let sources = panel["targets"].as_array().unwrap().iter().chain([panel]);
        for source in sources {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}
