//! The attributes that only the exported span has. Those that log lines show too are fields of the `tracing` span.

use opentelemetry::{KeyValue, trace::TraceContextExt};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::names;

/// Names an exported span and sets its attributes. Does nothing for a span that is not exported.
pub(super) fn describe(span: &Span, name: String, attributes: impl FnOnce(&mut Vec<KeyValue>)) {
    let context = span.context();
    let exported = context.span();
    if !exported.is_recording() {
        return;
    }
    exported.update_name(name);
    let mut all = Vec::with_capacity(12);
    attributes(&mut all);
    exported.set_attributes(all);
}

/// Adds an attribute whose value is a text, if the text is not empty.
pub(super) fn text(all: &mut Vec<KeyValue>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        all.push(KeyValue::new(name, value.to_owned()));
    }
}

/// Adds an attribute whose value is a number.
pub(super) fn number(all: &mut Vec<KeyValue>, name: &'static str, value: impl TryInto<i64>) {
    if let Ok(value) = value.try_into() {
        all.push(KeyValue::new(name, value));
    }
}

/// The attributes of every span.
pub(super) fn common(
    all: &mut Vec<KeyValue>,
    operation: &'static str,
    of_type: &'static str,
    server: Option<&(String, u16)>,
) {
    all.push(KeyValue::new(names::SYSTEM, names::RABBITMQ));
    all.push(KeyValue::new(names::OPERATION_NAME, operation));
    all.push(KeyValue::new(names::OPERATION_TYPE, of_type));
    if let Some((host, port)) = server {
        text(all, names::SERVER_ADDRESS, Some(host));
        number(all, names::SERVER_PORT, *port);
    }
}
