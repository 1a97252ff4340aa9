//! A message as it was received: its bytes, its labels, and what they mean. It does not change, but what is in its
//! wrapper is known only once that is opened.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use fluffle_wire::headers::{self, Attempt as AttemptNumber, ItemTraces, ItemTypes, Origin, TraceContext};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    base::{
        header::{AmqpHeader, lookup},
        labels,
        requests::{Request, Requests},
    },
    consume::message::{deliveries::InVain, item::properties_of_item, progress::StreamPosition},
    link::{channel::Generation, sanitizer},
};

/// One delivery, not decoded.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) queue: Arc<str>,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) redelivered: bool,
    pub(crate) generation: Generation,
    pub(crate) tag: u64,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
    /// The number of this attempt, from 1. The message carries it, because brokers reset their own counters when a copy
    /// is published.
    pub(crate) attempt_number: AttemptNumber,
    /// How often the broker delivered it before and it was not settled.
    pub(crate) in_vain: InVain,
    /// Which of its properties could not be read. If this is set, no handler is given the message.
    pub(crate) unreadable: Option<Arc<str>>,
    /// Set if the message is a request, whose sender waits for an answer.
    pub(crate) request: Option<Request>,
    /// Where an earlier copy of it came from; `None` on the first attempt.
    pub(crate) origin: Option<Box<Origin>>,
    /// Where it is in its stream, if it was read from one.
    pub(crate) position: Option<Box<StreamPosition>>,
    /// The span of the attempt before, if it had one.
    pub(crate) attempt_before: Option<Box<TraceContext>>,
    /// The span that sent it, if the message's wrapper tells it; known once the wrapper is opened.
    pub(crate) wrapperd_trace: OnceLock<Box<TraceContext>>,
}

impl Received {
    pub(crate) fn new(
        queue: &Arc<str>,
        generation: Generation,
        in_vain: InVain,
        requests: Requests,
        delivery: lapin::message::Delivery,
    ) -> Self {
        let (properties, unreadable) = match sanitizer::taken(&delivery.properties) {
            Some((properties, what)) => (properties, Some(what.into())),
            None => (delivery.properties, None),
        };
        let properties = labels::without_empty(properties);
        let header = |name: &'static str| lookup(&properties, name).and_then(|header| header.value());
        // A message that came by way of another queue begins at its first attempt here.
        let origin = Origin::read(header).filter(|origin| *origin.queue == **queue).map(Box::new);
        let came_back = origin.is_some() || header(headers::ORIGIN_QUEUE).is_none();
        let attempt_before = header(headers::ATTEMPT_TRACE).and_then(|span| span.as_str()?.parse().ok()).map(Box::new);
        Self {
            wrapperd_trace: OnceLock::new(),
            attempt_before,
            attempt_number: if came_back { AttemptNumber::read(header) } else { AttemptNumber::FIRST },
            origin,
            in_vain,
            position: None,
            unreadable,
            request: requests.of(&properties),
            queue: Arc::clone(queue),
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            redelivered: delivery.redelivered,
            generation,
            tag: delivery.delivery_tag,
            properties,
            body: Bytes::from(delivery.data),
            at: Instant::now(),
        }
    }

    /// Item `index` of this batch as a message of its own. `raw` is the item, or everything from a damaged item on.
    /// `traces` are those of the batch's items, if they are told by themselves.
    pub(crate) fn item(
        &self,
        index: usize,
        raw: Bytes,
        content_type: Option<&str>,
        traces: Option<&ItemTraces>,
    ) -> Self {
        let properties = properties_of_item(&self.properties, index, content_type, traces);
        Self { body: raw, properties, ..self.clone() }
    }

    /// The same message, labelled as of this type.
    pub(crate) fn of_type(mut self, type_name: Option<&str>) -> Self {
        if let Some(name) = type_name {
            self.properties = self.properties.with_type(name.into());
        }
        self
    }

    /// The same batch, with the types of its items in the header.
    pub(crate) fn with_item_types(mut self, types: &ItemTypes) -> Self {
        if !types.is_empty() {
            let mut table = self.headers().cloned().unwrap_or_default();
            table.insert(headers::ITEM_TYPES.into(), AMQPValue::LongString(types.header().into()));
            self.properties = self.properties.with_headers(table);
        }
        self
    }

    pub(crate) fn wire(&self) -> fluffle_wire::Incoming<'_> {
        fluffle_wire::Incoming {
            content_type: self.properties.content_type().as_ref().map(|text| text.as_str()),
            content_encoding: self.properties.content_encoding().as_ref().map(|text| text.as_str()),
            type_name: self.properties.kind().as_ref().map(|text| text.as_str()),
            headers: Some(self),
            body: &self.body,
        }
    }

    /// Whether the sender waits for an answer. A reply address alone does not mean that: see [`Requests::of`].
    pub(crate) fn wants_reply(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn message_id(&self) -> Option<&str> {
        self.properties.message_id().as_ref().map(|id| id.as_str())
    }

    /// The message's id for a log line; `-` for a message without one.
    pub(crate) fn id_or_dash(&self) -> &str {
        self.message_id().unwrap_or("-")
    }

    /// The span that sent the message or batch, by its headers, or else by its wrapper.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        let of_headers =
            self.headers().and_then(|_| TraceContext::read(|name| self.header(name).and_then(|header| header.value())));
        of_headers.or_else(|| self.wrapperd_trace.get().map(|trace| (**trace).clone()))
    }

    /// Whether the sender says something about its span, which [`trace`](Self::trace) reads.
    pub(crate) fn tells_a_trace(&self) -> bool {
        let has_header = self.headers().is_some() && self.header(headers::TRACEPARENT).is_some();
        has_header || self.wrapperd_trace.get().is_some()
    }

    /// The id of its trace for a log line; `None` for a message without a trace.
    pub(crate) fn trace_id(&self) -> Option<String> {
        self.trace().as_ref().map(TraceContext::trace_id_hex)
    }

    /// The spans that sent the items of the batch, if they are told by themselves.
    pub(crate) fn item_traces(&self) -> Option<ItemTraces> {
        let text = self.header(headers::ITEM_TRACES)?.text()?;
        Some(ItemTraces::parse(text)).filter(|traces| !traces.is_empty())
    }

    pub(crate) fn header(&self, name: &str) -> Option<AmqpHeader<'_>> {
        lookup(&self.properties, name)
    }

    /// Of a retry copy: when it was made, in milliseconds since 1970.
    pub(crate) fn retried_at(&self) -> Option<u64> {
        if self.attempt_number == AttemptNumber::FIRST {
            return None;
        }
        let millis = self.header(headers::RETRIED_AT)?.value()?.as_int()?;
        u64::try_from(millis).ok()
    }

    pub(crate) fn headers(&self) -> Option<&FieldTable> {
        self.properties.headers().as_ref()
    }
}

impl fluffle_wire::Headers for Received {
    fn header(&self, name: &str) -> Option<headers::HeaderValue<'_>> {
        lookup(&self.properties, name).and_then(|header| header.value())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A delivery on attempt `attempt`, for the tests of other modules too.
    pub(crate) fn received(attempt: u32) -> Received {
        let mut table = FieldTable::default();
        table.insert(fluffle_wire::headers::ATTEMPT.into(), AMQPValue::LongLongInt(attempt.into()));
        received_with(attempt, BasicProperties::default().with_headers(table))
    }

    /// A delivery with these properties.
    pub(crate) fn received_with(attempt: u32, properties: BasicProperties) -> Received {
        let mut delivery =
            lapin::message::Delivery::mock(7, "quakes".into(), "quake.major".into(), false, b"body".to_vec());
        delivery.properties = properties;
        let mut received = Received::new(&"q".into(), 1, InVain::default(), Requests::default(), delivery);
        if let Some(attempt) = AttemptNumber::new(attempt) {
            received.attempt_number = attempt;
        }
        received
    }

    #[test]
    fn an_attempt_header_of_rubbish_counts_as_the_first() {
        for value in [
            AMQPValue::LongString("many".into()),
            AMQPValue::LongLongInt(-3),
            AMQPValue::Boolean(true),
            AMQPValue::Void,
        ] {
            let mut table = FieldTable::default();
            table.insert(fluffle_wire::headers::ATTEMPT.into(), value);
            let mut delivery = lapin::message::Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
            delivery.properties = BasicProperties::default().with_headers(table);
            assert_eq!(
                Received::new(&"q".into(), 1, InVain::default(), Requests::default(), delivery).attempt_number,
                AttemptNumber::FIRST
            );
        }
    }
}
