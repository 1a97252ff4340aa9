//! The spans of a publisher's messages, and the traces that the messages carry.

use fluffle_wire::{
    Encoded,
    headers::{ITEM_TRACES, ITEM_TYPES, ItemTraces, TRACEPARENT, TraceContext},
};
use lapin::types::{AMQPValue, FieldTable};

use crate::{
    base::{
        header::lookup,
        trace::{self, CreateSpan, PublishInfo, PublishSpan, careful, context_of},
    },
    publish::{
        message::Prepared,
        options::MessageOptions,
        properties::{Labels, Properties, put_trace},
        receipt::Claim,
        route::{Key, Route},
        send_queue::SendQueue,
    },
};

/// Most bytes of the header with the traces of a batch's messages. Messages for which there is no room have the trace
/// of their batch.
const MOST_TRACES: usize = 32 * 1024;

/// What a message carries, and its span, if it has one.
pub(crate) type Traced = (Option<TraceContext>, Option<Box<dyn PublishSpan>>);

impl<T> Route<T> {
    /// What a tracer is told of a message of this route.
    fn info<'a>(&'a self, id: &'a str, routing_key: &'a str, options: &'a MessageOptions) -> PublishInfo<'a> {
        PublishInfo {
            message_id: id,
            exchange: &self.exchange,
            routing_key,
            key_template: self.key_template.as_deref(),
            key_varies: options.key.is_some() || matches!(self.key, Key::By(_)),
            correlation_id: options.correlation_id.as_deref(),
            batch_len: None,
            created_by: None,
            cause: None,
        }
    }
}

/// A message that travels by itself is about to be accepted.
pub(crate) fn alone<T>(
    route: &Route<T>,
    send_queue: &SendQueue,
    id: &str,
    routing_key: &str,
    options: &MessageOptions,
) -> Traced {
    let cause = options.cause();
    let Some(tracer) = send_queue.tracer.get() else { return (cause, None) };
    let created_by = options.created_by();
    let info =
        PublishInfo { created_by: created_by.as_ref(), cause: cause.as_ref(), ..route.info(id, routing_key, options) };
    let span = tracer.publish(&info);
    let carried = if created_by.is_none() { context_of(span.as_deref()).or(cause) } else { None };
    (carried, span)
}

/// A prepared message is about to be accepted. If it carries no trace, it carries that of its span from now on.
pub(crate) fn prepared(send_queue: &SendQueue, message: &mut Prepared) -> Option<Box<dyn PublishSpan>> {
    let tracer = send_queue.tracer.get()?;
    let properties = message.amqp_properties();
    let created_by = TraceContext::read(|name| lookup(&properties, name)?.value());
    let cause = trace::current();
    let info = PublishInfo {
        message_id: &message.id,
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        key_template: None,
        // A forwarder publishes messages of all routes, so nothing is known of their keys.
        key_varies: true,
        correlation_id: properties.correlation_id().as_ref().map(|id| id.as_str()),
        batch_len: (message.items > 1).then_some(message.items as usize),
        created_by: created_by.as_ref(),
        cause: cause.as_ref(),
    };
    let span = tracer.publish(&info);
    if created_by.is_none()
        && lookup(&properties, TRACEPARENT).is_none()
        && let Some(carried) = context_of(span.as_deref())
    {
        let mut headers = properties.headers().clone().unwrap_or_default();
        put_trace(&mut headers, &carried);
        message.properties = properties.with_headers(headers).into();
    }
    span
}

/// A batch is about to be sent: its properties with its labels, its own trace, and those of its messages if they have
/// others; and its span, if it has one. A batch of one that travels as its message, so without
/// [`PublishInfo::batch_len`], carries the trace of that message.
pub(crate) fn batch(
    send_queue: &SendQueue,
    labels: Labels,
    info: &PublishInfo<'_>,
    traces: &ItemTraces,
    encoded: &Encoded,
) -> (Properties, Option<Box<dyn PublishSpan>>) {
    let span = send_queue.tracer.get().and_then(|tracer| tracer.publish_batch(info, &mut traces.iter()));
    let items = encoded.items;
    let common = traces.common(items);
    let is_message = info.batch_len.is_none();
    let trace = match common {
        Some(own) if is_message => Some(own.clone()),
        _ => context_of(span.as_deref()).or_else(|| common.cloned()),
    };
    if trace.is_none() && traces.is_empty() && encoded.item_types.is_none() {
        return (Properties::Labels(labels), span);
    }
    let mut headers = FieldTable::default();
    if let Some(types) = &encoded.item_types {
        headers.insert(ITEM_TYPES.into(), AMQPValue::LongString((&**types).into()));
    }
    if let Some(trace) = &trace {
        put_trace(&mut headers, trace);
    }
    let is_said = traces.is_empty() || trace.is_some() && common == trace.as_ref();
    if !is_said {
        // Half of the frame is left to the headers that retries and dead letters add.
        let mut told = traces.clone();
        // An item of which nothing is said would seem to belong to the batch's trace.
        told.tell_all(items);
        let of_items = told.header(MOST_TRACES.min(send_queue.most_header_bytes() / 2));
        if !of_items.is_empty() {
            headers.insert(ITEM_TRACES.into(), AMQPValue::LongString(of_items.into()));
        }
    }
    (labels.to_amqp(info.message_id).with_headers(headers).into(), span)
}

/// A message that is to join a batch.
pub(crate) struct Joining<'a, T> {
    pub(crate) message: &'a T,
    pub(crate) key: &'a str,
    /// What the batch carries for it.
    pub(crate) trace: Option<&'a TraceContext>,
    /// The trace that it belongs to, if a tracer has made another one for it.
    pub(crate) cause: Option<&'a TraceContext>,
}

/// A message on its way into a batch: what the batch carries for it, and its span, if it has one.
#[derive(Default)]
pub(crate) struct Creation {
    trace: Option<TraceContext>,
    /// The trace that the message belongs to, if its span has made another one.
    cause: Option<TraceContext>,
    span: Option<Box<dyn CreateSpan>>,
}

impl Creation {
    /// A message is about to join a batch.
    pub(crate) fn new<T>(route: &Route<T>, send_queue: &SendQueue, key: &str, options: &MessageOptions) -> Self {
        let cause = options.cause();
        let Some(tracer) = send_queue.tracer.get() else { return Self { trace: cause, cause: None, span: None } };
        let info = PublishInfo { cause: cause.as_ref(), ..route.info("", key, options) };
        let span = tracer.create(&info);
        let own = careful("reading the span of a message", || span.as_deref()?.context()).flatten();
        match own {
            Some(own) => Self { trace: Some(own), cause, span },
            None => Self { trace: cause, cause: None, span },
        }
    }

    /// The message as its batch takes it.
    pub(crate) fn of<'a, T>(&'a self, message: &'a T, key: &'a str) -> Joining<'a, T> {
        Joining { message, key, trace: self.trace.as_ref(), cause: self.cause.as_ref() }
    }

    /// The message is in a batch, and ends its span; or it is not.
    pub(crate) fn joined<E>(self, joined: Result<Claim, E>) -> Result<Claim, E> {
        joined.map(|claim| self.into_batch(claim))
    }

    /// The message is in a batch, and its span ends.
    pub(crate) fn into_batch(self, claim: Claim) -> Claim {
        if let Some(span) = self.span {
            careful("ending the span of a message", || span.joined(claim.id()));
        }
        claim
    }
}
