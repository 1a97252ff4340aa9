//! Trace contexts as `fluffle-wire` writes them, and as OpenTelemetry has them.

use std::str::FromStr;

use fluffle_wire::headers::TraceContext;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The span of another process, or one that ended, as a link or a parent.
pub(super) fn remote(context: &TraceContext) -> SpanContext {
    let flags = if context.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.state().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace_id, span_id) = (TraceId::from_bytes(context.trace_id()), SpanId::from_bytes(context.span_id()));
    SpanContext::new(trace_id, span_id, flags, true, state)
}

/// A parent for spans that continue `context`.
pub(super) fn parent(context: &TraceContext) -> Context {
    Context::new().with_remote_span_context(remote(context))
}

/// A parent that makes OpenTelemetry's usual sampler drop its children, in a trace of its own.
pub(super) fn sampled_out() -> Context {
    // 0 is no valid id.
    let trace_id = TraceId::from_bytes(fastrand::u128(1..).to_be_bytes());
    let span_id = SpanId::from_bytes(fastrand::u64(1..).to_be_bytes());
    let context = SpanContext::new(trace_id, span_id, TraceFlags::default(), true, TraceState::default());
    Context::new().with_remote_span_context(context)
}

/// What a message carries so that its consumers know `span`. `None` if no layer exports the span.
pub(super) fn of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    from(span.context().span().span_context())
}

fn from(context: &SpanContext) -> Option<TraceContext> {
    let (trace_id, span_id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    let trace = TraceContext::new(trace_id, span_id, context.is_sampled()).ok()?;
    let state = context.trace_state().header();
    if state.is_empty() {
        return Some(trace);
    }
    // A state that is too long is left out, as the specification allows.
    Some(trace.clone().with_state(&state).unwrap_or(trace))
}

/// The trace of the current span, for messages that are published in it.
pub(super) fn current() -> Option<TraceContext> {
    of(&Span::current())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_in_both_forms() {
        for sampled in [false, true] {
            let trace = TraceContext::new([7; 16], [8; 8], sampled).unwrap().with_state("vendor=1").unwrap();
            assert_eq!(from(&remote(&trace)), Some(trace));
        }
        assert_eq!(from(&SpanContext::empty_context()), None);
    }
}
