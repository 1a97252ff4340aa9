//! The spans of published messages.

use std::collections::HashSet;

use fluffle_amqp::{CreateSpan, PublishInfo, PublishResult, PublishSpan, PublishTracer};
use fluffle_wire::headers::TraceContext;
use opentelemetry::{KeyValue, trace::Status};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    Traces,
    attributes::{common, describe, number, text},
    context, destination, names,
};

/// The span of a message, or batch, until its outcome.
struct Publishing {
    span: Span,
    context: Option<TraceContext>,
    settled: bool,
}

/// The span of a message until it is in a batch.
struct Creating {
    span: Span,
    context: Option<TraceContext>,
}

impl PublishTracer for Traces {
    fn publish(&self, message: &PublishInfo<'_>) -> Option<Box<dyn PublishSpan>> {
        let parent = message.cause.or(message.created_by);
        if !self.settings().is_sampled(parent) {
            return None;
        }
        // If another span has created the message, this one only sends it.
        let kind = if message.created_by.is_some() { names::CLIENT } else { names::PRODUCER };
        let span = begun(kind, message.message_id, parent)?;
        if let Some(created_by) = message.created_by {
            link_creation(&span, created_by);
        }
        self.describe_publish(&span, names::PUBLISH, names::SEND, message);
        Some(Box::new(Publishing { context: context::of(&span), span, settled: false }))
    }

    fn create(&self, message: &PublishInfo<'_>) -> Option<Box<dyn CreateSpan>> {
        if !self.settings().create || !self.settings().is_sampled(message.cause) {
            return None;
        }
        let span = info_span!(
            parent: None,
            "create",
            otel.kind = names::PRODUCER,
            { names::MESSAGE_ID } = Empty,
        );
        let span = continuing(span, message.cause)?;
        self.describe_publish(&span, names::CREATE, names::CREATE, message);
        Some(Box::new(Creating { context: context::of(&span), span }))
    }

    fn publish_batch(
        &self,
        batch: &PublishInfo<'_>,
        items: &mut dyn Iterator<Item = &TraceContext>,
    ) -> Option<Box<dyn PublishSpan>> {
        let (mut has_traces, mut seen, mut links) = (false, HashSet::new(), Vec::new());
        for trace in items {
            has_traces = true;
            if trace.sampled() && seen.insert(trace.span_id()) {
                links.push(trace);
            }
        }
        let sampled = if has_traces { !links.is_empty() } else { self.settings().is_sampled(None) };
        if !sampled {
            return None;
        }
        let kind = if has_traces { names::CLIENT } else { names::PRODUCER };
        // A trace that all messages share is also the batch's own.
        let span = begun(kind, batch.message_id, batch.cause)?;
        for trace in links {
            link_creation(&span, trace);
        }
        self.describe_publish(&span, names::PUBLISH, names::SEND, batch);
        Some(Box::new(Publishing { context: context::of(&span), span, settled: false }))
    }
}

impl Traces {
    fn describe_publish(&self, span: &Span, operation: &'static str, of_type: &'static str, message: &PublishInfo<'_>) {
        let template = destination::template(message);
        let name = format!("{operation} {}", destination::in_a_name(message, template.as_deref()));
        describe(span, name, |all| {
            common(all, operation, of_type, self.settings().server.as_ref());
            let destination = destination::joined(&[message.exchange, message.routing_key]);
            all.push(KeyValue::new(names::DESTINATION, destination));
            text(all, names::DESTINATION_TEMPLATE, template.as_deref());
            text(all, names::ROUTING_KEY, Some(message.routing_key));
            text(all, names::CONVERSATION_ID, message.correlation_id);
            if let Some(messages) = message.batch_len {
                number(all, names::BATCH_MESSAGE_COUNT, messages);
            }
        });
    }
}

/// A span that continues `parent`. `None` if nobody wants it.
fn begun(kind: &'static str, message_id: &str, parent: Option<&TraceContext>) -> Option<Span> {
    let span = info_span!(parent: None, "publish", otel.kind = kind, { names::MESSAGE_ID } = message_id);
    continuing(span, parent)
}

fn continuing(span: Span, parent: Option<&TraceContext>) -> Option<Span> {
    if span.is_disabled() {
        return None;
    }
    if let Some(parent) = parent {
        // Fails if no layer exports the span: then it is nobody's child.
        let _ = span.set_parent(context::parent(parent));
    }
    Some(span)
}

fn link_creation(span: &Span, created_by: &TraceContext) {
    let kind = vec![KeyValue::new(names::LINK, names::CREATION)];
    span.add_link_with_attributes(context::remote(created_by), kind);
}

impl PublishSpan for Publishing {
    fn context(&self) -> Option<TraceContext> {
        self.context.clone()
    }

    fn settled(mut self: Box<Self>, result: PublishResult) {
        self.settled = true;
        let outcome = match result {
            PublishResult::Confirmed => names::CONFIRMED,
            PublishResult::Returned => names::RETURNED,
            PublishResult::Nacked => names::NACKED,
            PublishResult::Failed => names::FAILED,
            PublishResult::Withdrawn => names::WITHDRAWN,
            _ => names::UNKNOWN,
        };
        self.span.set_attribute(names::OUTCOME, outcome);
        if !matches!(result, PublishResult::Confirmed | PublishResult::Withdrawn) {
            self.span.set_attribute(names::ERROR_TYPE, outcome);
            self.span.set_status(Status::error(""));
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if !self.settled {
            self.span.set_attribute(names::OUTCOME, names::UNKNOWN);
        }
    }
}

impl CreateSpan for Creating {
    fn context(&self) -> Option<TraceContext> {
        self.context.clone()
    }

    fn joined(self: Box<Self>, message_id: &str) {
        self.span.record(names::MESSAGE_ID, message_id);
    }
}
