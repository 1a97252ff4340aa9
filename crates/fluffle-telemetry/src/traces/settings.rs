//! [`Traces`]: which spans are made.

use std::sync::Arc;

use fluffle_amqp::{Observer, PublishTracer, PublisherLabels, trace};
use fluffle_wire::headers::TraceContext;

use super::context;

/// Makes spans of the messages that a service publishes and handles. Cheap to clone.
///
/// It is an [`Observer`], which makes the spans of published messages, and a [`Middleware`](fluffle_amqp::Middleware),
/// which makes those of handled ones: hand it to the service as both. The spans are [`tracing`] spans of level `info`;
/// the layer of tracing-opentelemetry exports them. Without such a layer they are in the log lines alone, and messages
/// carry the trace that they came with.
///
/// | setting | default |
/// |---|---|
/// | [`sample`](Self::sample) | 1: all new traces are recorded |
/// | [`create`](Self::create) | on: each message of a batch has a span of its own |
/// | [`parent`](Self::parent) | on: a `process` span has the creator of its message as its parent |
/// | [`settle`](Self::settle) | off: the ack of a message has no span |
/// | [`in_each_log_line`](Self::in_each_log_line) | off: log lines of messages that are not sampled have no span |
/// | [`server`](Self::server) | not given |
///
/// # Example
/// ```no_run
/// use fluffle::prelude::*;
/// use fluffle_telemetry::traces::Traces;
/// use opentelemetry::trace::TracerProvider;
/// use tracing_subscriber::prelude::*;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
/// let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
/// tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(layer).init();
///
/// let traces = Traces::new().sample(0.01);
/// let app = App::new(Broker::from_env()?).observe(traces.observer()).middleware(traces);
/// app.run_until_signal().await?;
/// provider.shutdown()?; // sends the last spans
/// # Ok(())
/// # }
/// ```
///
/// # Log lines
/// What a handler logs is inside the `process` span, whose fields are the message's id, the queue, the attempt and the
/// trace's id. So each line has them.
///
/// # What is never recorded
/// Bodies, their sizes, and values of headers. The text of a handler's error is the description of its span's status,
/// as it is in the log.
///
/// # Cost
/// For a message that is not sampled nothing is allocated: its `traceparent` is read, or a random number is drawn if it
/// has none. A publish also looks for the current `tracing` span. So sample here, and leave the sampler of
/// OpenTelemetry at its default, which records what comes sampled: that sampler is asked only when a span was made.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Settings>);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    sample: f64,
    pub(super) create: bool,
    pub(super) parent: bool,
    pub(super) settle: bool,
    pub(super) in_each_log_line: bool,
    pub(super) server: Option<(String, u16)>,
}

impl Default for Traces {
    fn default() -> Self {
        Self::new()
    }
}

impl Traces {
    /// With the defaults. From the first call on, messages that are published or
    /// [prepared](fluffle_amqp::Route::prepare) in this process carry the trace of the current `tracing` span, if that
    /// span is exported.
    pub fn new() -> Self {
        // False if another call was first, which is the same.
        let _ = trace::look_first_in(context::current);
        let server = None;
        Self(Arc::new(Settings {
            sample: 1.0,
            create: true,
            parent: true,
            settle: false,
            in_each_log_line: false,
            server,
        }))
    }

    /// The part of new traces that is recorded, from 0 to 1. A trace is new if neither the message nor the code that
    /// publishes it belongs to one. A message that comes with a trace is recorded if its `traceparent` says so,
    /// whatever this setting is. 0 in a service that should only continue the traces of others: a message that was not
    /// sampled carries no trace, unless it came with one, so the next service would draw again.
    #[must_use]
    pub fn sample(self, part: f64) -> Self {
        // NaN is no part.
        self.with(|settings| settings.sample = if part > 0.0 { part.min(1.0) } else { 0.0 })
    }

    /// Whether each message that joins a batch has a `create` span, which its `process` span has as its parent. The
    /// batch carries 58 bytes for each of them, up to 32 KiB; messages beyond have the span of their batch instead.
    /// Without, messages carry the trace in which they are published, and neighbours with the same one share the bytes.
    #[must_use]
    pub fn create(self, on: bool) -> Self {
        self.with(|settings| settings.create = on)
    }

    /// Whether the `process` span of a single message has the span that created the message as its parent. It always
    /// has a link to it. Without, each handling is a trace of its own, which is recorded if the message's was.
    #[must_use]
    pub fn parent(self, on: bool) -> Self {
        self.with(|settings| settings.parent = on)
    }

    /// Whether there is a span from the handler's answer to the ack: `ack <queue>`, or `nack <queue>` if the message is
    /// put back. It contains the copy for a retry or dead letter. Not for messages of a batch that are handled one by
    /// one, which share an ack. It costs a task and a span for each sampled message.
    #[must_use]
    pub fn settle(self, on: bool) -> Self {
        self.with(|settings| settings.settle = on)
    }

    /// Whether a message that is not sampled has a `process` span all the same, which is not exported: for log lines,
    /// which then all have the message's id, queue, attempt and trace. The application's own spans inside the handler
    /// are then not exported either, and what the handler publishes says that the trace is not sampled. It costs a
    /// `tracing` span for each message.
    ///
    /// Needs OpenTelemetry's default sampler, or another one that respects the parent's decision.
    #[must_use]
    pub fn in_each_log_line(self, on: bool) -> Self {
        self.with(|settings| settings.in_each_log_line = on)
    }

    /// The broker's host and port, for the attributes `server.address` and `server.port`.
    #[must_use]
    pub fn server(self, host: impl Into<String>, port: u16) -> Self {
        self.with(|settings| settings.server = Some((host.into(), port)))
    }

    /// A clone to observe the service with, see `App::observe`.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0
    }
}

impl Settings {
    /// Whether what belongs to this trace, or begins a new one, is recorded.
    pub(super) fn is_sampled(&self, trace: Option<&TraceContext>) -> bool {
        match trace {
            Some(trace) => trace.sampled(),
            None => self.sample >= 1.0 || self.sample > 0.0 && fastrand::f64() < self.sample,
        }
    }
}

impl Observer for Traces {
    fn publish_tracer(&self, _: &PublisherLabels<'_>) -> Option<Arc<dyn PublishTracer>> {
        Some(Arc::new(self.clone()))
    }
}
