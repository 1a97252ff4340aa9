//! The spans of handled messages.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use fluffle_amqp::{DeliveryInfo, Failure, HandlerResult, HandlerStep, Handling, Middleware, Settled};
use fluffle_wire::headers::TraceContext;
use opentelemetry::{KeyValue, trace::Status};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    Traces,
    attributes::{common, describe, number, text},
    context, destination, names,
};

/// The span of one handling.
struct Processing {
    span: Span,
    trace: Option<TraceContext>,
    /// The span from the answer to the ack, if there is to be one: made with the answer.
    settling: Option<Arc<Settling>>,
}

/// From the answer to the ack.
struct Settling {
    span: OnceLock<Span>,
    queue: String,
    server: Option<(String, u16)>,
}

impl Middleware for Traces {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        let settings = self.settings();
        let created_by = delivery.trace();
        // Of a whole batch, one sampled message is enough.
        let item_is_sampled = delivery.item_traces().any(TraceContext::sampled);
        let is_sampled = item_is_sampled || settings.is_sampled(created_by.as_ref());
        if !is_sampled && !settings.in_each_log_line {
            return Ok(Box::new(()));
        }
        let span = info_span!(
            parent: None,
            "process",
            otel.kind = names::CONSUMER,
            { names::MESSAGE_ID } = delivery.message_id(),
            { names::QUEUE } = delivery.queue(),
            { names::ATTEMPT } = delivery.attempt(),
            { names::TRACE_ID } = Empty,
        );
        if span.is_disabled() {
            return Ok(Box::new(()));
        }
        self.set_parent(&span, delivery, created_by.as_ref(), is_sampled);
        if is_sampled {
            link(&span, delivery, created_by.as_ref());
        }
        let trace = context::of(&span);
        if let Some(trace) = &trace {
            span.record(names::TRACE_ID, tracing::field::display(trace.trace_id_hex()));
            self.describe_process(&span, delivery);
        } else if let Some(created_by) = &created_by {
            // No layer exports the span. Log lines have the trace that the message came with.
            span.record(names::TRACE_ID, tracing::field::display(created_by.trace_id_hex()));
        }
        let is_item = delivery.batch_index().is_some();
        let settling = (settings.settle && is_sampled && !is_item).then(|| {
            let (queue, server) = (delivery.queue().to_owned(), settings.server.clone());
            Arc::new(Settling { span: OnceLock::new(), queue, server })
        });
        Ok(Box::new(Processing { span, trace, settling }))
    }
}

impl Traces {
    fn set_parent(
        &self,
        span: &Span,
        delivery: &DeliveryInfo<'_>,
        created_by: Option<&TraceContext>,
        is_sampled: bool,
    ) {
        let is_whole_batch = delivery.batch_len().is_some() && delivery.batch_index().is_none();
        let parent = match created_by.filter(|_| !is_whole_batch && self.settings().parent) {
            Some(created_by) => Some(context::parent(created_by)),
            None if !is_sampled => Some(context::sampled_out()),
            None => None,
        };
        if let Some(parent) = parent {
            // Fails if no layer exports the span: then it is nobody's child.
            let _ = span.set_parent(parent);
        }
    }

    fn describe_process(&self, span: &Span, delivery: &DeliveryInfo<'_>) {
        let name = format!("{} {}", names::PROCESS, delivery.queue());
        describe(span, name, |all| {
            common(all, names::PROCESS, names::PROCESS, self.settings().server.as_ref());
            let parts = [delivery.exchange(), delivery.routing_key(), delivery.queue()];
            all.push(KeyValue::new(names::DESTINATION, destination::joined(&parts)));
            text(all, names::ROUTING_KEY, Some(delivery.routing_key()));
            text(all, names::CONVERSATION_ID, delivery.correlation_id());
            number(all, names::DELIVERY_TAG, delivery.delivery_tag());
            if let (Some(messages), None) = (delivery.batch_len(), delivery.batch_index()) {
                number(all, names::BATCH_MESSAGE_COUNT, messages);
            }
        });
    }
}

/// Links the spans that created the message, or the messages of a whole batch, and the span of the attempt before.
fn link(span: &Span, delivery: &DeliveryInfo<'_>, created_by: Option<&TraceContext>) {
    let link = |trace: &TraceContext, kind: &'static str| {
        span.add_link_with_attributes(context::remote(trace), vec![KeyValue::new(names::LINK, kind)]);
    };
    let mut linked = HashSet::new();
    for created_by in created_by.into_iter().chain(delivery.item_traces()).filter(|trace| trace.sampled()) {
        if linked.insert(created_by.span_id()) {
            link(created_by, names::CREATION);
        }
    }
    if let Some(before) = delivery.last_attempt_trace() {
        link(before, names::ATTEMPT_BEFORE);
    }
}

impl Handling for Processing {
    fn trace(&self) -> Option<TraceContext> {
        self.trace.clone()
    }

    fn on_settled(&self) -> Option<Box<dyn FnOnce(Settled)>> {
        let settling = Arc::clone(self.settling.as_ref()?);
        Some(Box::new(move |settled| settling.end(settled)))
    }

    fn step(&mut self, step: HandlerStep<'_>) {
        self.span.in_scope(|| step.run());
    }

    fn after(self: Box<Self>, result: HandlerResult<'_>) {
        let (outcome, why) = match result {
            HandlerResult::Handled => (names::HANDLED, None),
            HandlerResult::Failed(failure) if failure.is_permanent() => (names::REJECTED, Some(failure.to_string())),
            HandlerResult::Failed(failure) => (names::FAILED, Some(failure.to_string())),
            HandlerResult::ItemsFailed(items) => {
                (names::ITEMS_FAILED, Some(format!("{} messages of the batch failed", items.len())))
            }
            _ => (names::CRASHED, Some(String::new())),
        };
        self.span.set_attribute(names::OUTCOME, outcome);
        if let Some(why) = why {
            self.span.set_attribute(names::ERROR_TYPE, outcome);
            self.span.set_status(Status::error(why));
        }
        if let Some(settling) = &self.settling {
            settling.begin(&self.span);
        }
    }
}

impl Settling {
    fn begin(&self, process: &Span) {
        // A child of the handling by its context alone, because the handling ends before.
        let span = info_span!(parent: None, "settle", otel.kind = names::CLIENT);
        let _ = span.set_parent(process.context());
        // Called once, so there is none yet.
        let _ = self.span.set(span);
    }

    fn end(&self, settled: Settled) {
        let Some(span) = self.span.get() else { return };
        let (operation, outcome) = match settled {
            Settled::Acked => (names::ACK, names::ACKED),
            Settled::Retried => (names::ACK, names::RETRIED),
            Settled::DeadLettered => (names::ACK, names::DEAD_LETTERED),
            Settled::Requeued => (names::NACK, names::REQUEUED),
            Settled::Lost => (names::ACK, names::LOST),
            _ => (names::ACK, names::NOT_HANDLED),
        };
        describe(span, format!("{operation} {}", self.queue), |all| {
            common(all, operation, names::SETTLE, self.server.as_ref());
            text(all, names::DESTINATION, Some(&self.queue));
            text(all, names::QUEUE, Some(&self.queue));
            text(all, names::OUTCOME, Some(outcome));
            if settled == Settled::Lost {
                text(all, names::ERROR_TYPE, Some(outcome));
            }
        });
    }
}
