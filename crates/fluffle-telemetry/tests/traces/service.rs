//! A service with spans, and looking at its spans.

use std::time::Duration;

use fluffle::{prelude::*, supervise::Backoff};
use fluffle_telemetry::traces::Traces;

use crate::collector::{Span, collector};

/// A service with these spans, which are exported to the collector.
pub fn app(url: &str, traces: Traces) -> App {
    collector();
    let waits = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200)).unwrap();
    let broker = Broker::new(url).unwrap().reconnect(waits);
    App::new(broker).observe(traces.observer()).middleware(traces)
}

/// Starts the app and waits until everything runs.
pub async fn started(app: App) -> Service {
    let service = app.start().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), service.ready()).await.expect("in time").expect("it runs");
    service
}

/// The only span of this name.
#[track_caller]
pub fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let all = named(spans, name);
    assert_eq!(all.len(), 1, "{name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    all[0]
}

/// The spans of this name.
pub fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[track_caller]
pub fn assert_child(child: &Span, parent: &Span) {
    assert_eq!((&child.parent, &child.trace), (&parent.id, &parent.trace), "{} below {}", child.name, parent.name);
}
