//! The properties of one message beside its body.

use std::time::Duration;

use fluffle_wire::headers::{TRACEPARENT, TRACESTATE, TraceContext};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::{
    base::{header::AmqpHeader, trace},
    publish::properties::{self, Labels, Properties},
};

/// Most bytes of headers. All headers of a message travel in one frame of 128 KiB. Retry copies and dead letters add
/// about 3 KiB. If the connection has smaller frames, there is less room, see
/// [`HeadersTooLarge`](crate::PublishErrorKind::HeadersTooLarge).
const HEADERS_LIMIT: usize = 32 * 1024;

/// The properties of one message beside its body. All are optional. Headers may take 32 KiB in all. Headers and all
/// other properties together must fit one frame of the connection, which has room for 20 bytes less than the negotiated
/// `frame_max`.
///
/// ```
/// use fluffle_amqp::MessageOptions;
///
/// let options = MessageOptions::new().correlation_id("order-7").priority(5).header("tenant", "eu");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MessageOptions {
    pub(crate) id: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) correlation_id: Option<String>,
    expiration: Option<Duration>,
    priority: Option<u8>,
    headers: Vec<(String, AMQPValue)>,
    /// The trace of the message that this one is sent because of.
    cause: Option<TraceContext>,
}

impl MessageOptions {
    pub(crate) const NONE: &'static Self = &Self {
        id: None,
        key: None,
        correlation_id: None,
        expiration: None,
        priority: None,
        headers: Vec::new(),
        cause: None,
    };

    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message id, instead of a new UUIDv7. For publishing the same message again. An empty id counts as none.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// The routing key, instead of the route's.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// AMQP `correlation_id`. An empty id counts as none.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// The time to live of this message, in whole milliseconds (AMQP `expiration`).
    #[must_use]
    pub fn expiration(mut self, ttl: Duration) -> Self {
        self.expiration = Some(ttl);
        self
    }

    /// AMQP `priority`, 0 to 255. RabbitMQ advises at most 10.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Adds a header that holds text. Names that begin with `x-fluffle-` are reserved for Fluffle.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), AMQPValue::LongString(value.into().into())));
        self
    }

    /// Adds a header that holds an integer.
    #[must_use]
    pub fn header_integer(mut self, name: impl Into<String>, value: i64) -> Self {
        self.headers.push((name.into(), AMQPValue::LongLongInt(value)));
        self
    }

    /// The span that has created the message (W3C Trace Context), which the message carries as it is. By default that
    /// is the span of the publish, if the service traces, else the [current trace](crate::trace::current).
    #[must_use]
    pub fn trace(mut self, context: &TraceContext) -> Self {
        self = self.header(TRACEPARENT, context.traceparent());
        match context.state() {
            Some(state) => self.header(TRACESTATE, state),
            None => self,
        }
    }

    /// The message belongs to this trace, unless the code that publishes it is in a span of the same trace.
    pub(crate) fn in_trace_of(mut self, cause: Option<TraceContext>) -> Self {
        self.cause = cause.or(self.cause);
        self
    }

    /// The trace that the message belongs to.
    pub(crate) fn cause(&self) -> Option<TraceContext> {
        let current = trace::current();
        match (&self.cause, current) {
            (Some(given), Some(current)) if given.trace_id() == current.trace_id() => Some(current),
            (Some(given), _) => Some(given.clone()),
            (None, current) => current,
        }
    }

    /// The span that has created the message, if the headers say so.
    pub(crate) fn created_by(&self) -> Option<TraceContext> {
        if self.headers.is_empty() {
            return None;
        }
        TraceContext::read(|name| {
            let (_, value) = self.headers.iter().rev().find(|(own, _)| own == name)?;
            AmqpHeader(value).value()
        })
    }

    fn carries_a_trace(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == TRACEPARENT)
    }

    /// Whether the message may join a batch: nothing is set but a routing key, which all messages of an envelope share.
    pub(crate) fn allow_batch(&self) -> bool {
        let Self { id, key: _, correlation_id, expiration, priority, headers, cause: _ } = self;
        id.is_none() && correlation_id.is_none() && expiration.is_none() && priority.is_none() && headers.is_empty()
    }

    /// The name of a property that is longer than allowed, if there is one.
    pub(crate) fn too_long(&self) -> Option<&'static str> {
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 255);
        let header = self.headers.iter().any(|(name, _)| name.len() > 255);
        let headers = self.header_bytes() > HEADERS_LIMIT;
        [
            (long(&self.id), "message id"),
            (long(&self.correlation_id), "correlation id"),
            (header, "header name"),
            (headers, "headers"),
        ]
        .into_iter()
        .find_map(|(bad, name)| bad.then_some(name))
    }

    fn header_bytes(&self) -> usize {
        let value = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.as_bytes().len(),
            _ => 8,
        };
        self.headers.iter().map(|(name, content)| name.len() + value(content) + 6).sum()
    }

    /// The properties of the message `id`: `labels` and these options. If the options say nothing of a trace, the
    /// message carries `trace`.
    pub(crate) fn apply(&self, labels: Labels, id: &str, trace: Option<&TraceContext>) -> Properties {
        let Self { id: _, key: _, correlation_id, expiration, priority, headers, cause: _ } = self;
        let has_none = correlation_id.is_none() && expiration.is_none() && priority.is_none() && headers.is_empty();
        if has_none && trace.is_none() {
            return Properties::Labels(labels);
        }
        self.add_to(labels.to_amqp(id), trace).into()
    }

    pub(crate) fn add_to(&self, mut properties: BasicProperties, trace: Option<&TraceContext>) -> BasicProperties {
        let trace = trace.filter(|_| !self.carries_a_trace());
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(id.as_str().into());
        }
        if let Some(ttl) = self.expiration {
            properties = properties.with_expiration(ttl.as_millis().to_string().into());
        }
        if let Some(priority) = self.priority {
            properties = properties.with_priority(priority);
        }
        if self.headers.is_empty() && trace.is_none() {
            return properties;
        }
        let mut table = FieldTable::default();
        for (name, value) in &self.headers {
            table.insert(name.as_str().into(), value.clone());
        }
        if let Some(trace) = trace {
            properties::put_trace(&mut table, trace);
        }
        properties.with_headers(table)
    }
}
