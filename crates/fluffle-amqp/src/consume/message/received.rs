//! A delivery as it came off the channel: bytes, labels, and where it stands.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fluffle_wire::headers::{self, Attempt, Origin};
use futures_util::task::AtomicWaker;
use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};

use tokio::sync::SetOnce;

use crate::{
    base::{
        header::{AmqpHeader, lookup},
        labels,
        requests::{Request, Requests},
    },
    consume::{
        attempt::envelope::{Contents, Envelope},
        intake::seen::HandlingClaim,
        message::deliveries::InVain,
        queue::{by_key::KeyLock, handler_queue::Charge},
    },
    link::{channel::Generation, sanitizer},
};

/// One delivery, not decoded. Shared by the handler's [`Delivery`](crate::Delivery) and by whoever settles it.
#[derive(Debug)]
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
    /// When a handler was given it.
    pub(crate) started: OnceLock<Instant>,
    /// This attempt's number, from 1: carried by the message, for brokers reset their counters on republishing.
    pub(crate) attempt: Attempt,
    /// How often it was handed out before, without it being settled.
    pub(crate) in_vain: InVain,
    /// What of its properties could not be read: it is never handed to a handler.
    pub(crate) unreadable: Option<Arc<str>>,
    /// Somebody waits for its answer.
    pub(crate) request: Option<Request>,
    given_up: AtomicBool,
    waker: AtomicWaker,
    /// Its bytes in a handler's hands: until it is settled, or nobody has it any more.
    charge: OnceLock<Charge>,
    /// Where an earlier copy of it came from; `None` on the first attempt.
    pub(crate) origin: Option<Origin>,
    /// Its key, in order by key: from when a handler takes it until it has an answer, waits between attempts here included.
    pub(crate) hold: OnceLock<KeyLock>,
    /// Held while it is handled, with effectively once.
    pub(crate) claim: OnceLock<Arc<HandlingClaim>>,
    /// What became of it.
    pub(crate) settled: SetOnce<Settled>,
    /// A batch, once it has been opened.
    pub(crate) contents: OnceLock<Box<Contents>>,
}

/// What became of a delivery, as the broker knows it: [`Delivery::settled`](crate::Delivery::settled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// Handled and acked; in the other order with `AtMostOnce`, whose ack may not have got through.
    Acked,
    /// Failed; a copy waits in a retry queue.
    Retried,
    /// Failed for good; a copy is in the dead-letter queue.
    DeadLettered,
    /// A request that was not handled: its asker has been told why.
    Refused,
    /// A request that nobody waited for any more: it was not handled.
    Expired,
    /// Put back into its queue, no attempt charged.
    Requeued,
    /// With `AtMostOnce`: not handled. It was acked when it came, and does not come again.
    Dropped,
    /// Its channel or connection was lost first: it cannot be acked any more, and the broker delivers it again, perhaps to
    /// another process. Work that is done for it now, or was, is done twice unless it is idempotent.
    Lost,
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
        // What came by way of another queue begins anew here, whatever it was there.
        let origin = Origin::read(header).filter(|origin| *origin.queue == **queue);
        let came_back = origin.is_some() || header(headers::ORIGIN_QUEUE).is_none();
        Self {
            attempt: if came_back { Attempt::read(header) } else { Attempt::FIRST },
            origin,
            in_vain,
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
            given_up: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            charge: OnceLock::new(),
            started: OnceLock::new(),
            hold: OnceLock::new(),
            claim: OnceLock::new(),
            settled: SetOnce::new(),
            contents: OnceLock::new(),
        }
    }

    /// The same delivery for its next attempt, without a trip to the broker.
    pub(crate) fn again(&self, attempt: Attempt) -> Self {
        let _ = self.settled.set(Settled::Retried);
        let again = self.copy(attempt);
        if let Some(hold) = self.hold.get().and_then(KeyLock::pass_on) {
            let _ = again.hold.set(hold);
        }
        again
    }

    fn copy(&self, attempt: Attempt) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            redelivered: self.redelivered,
            generation: self.generation,
            tag: self.tag,
            properties: self.properties.clone(),
            body: self.body.clone(),
            at: self.at,
            started: OnceLock::new(),
            attempt,
            in_vain: self.in_vain,
            unreadable: self.unreadable.clone(),
            request: self.request,
            given_up: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            charge: OnceLock::new(),
            hold: OnceLock::new(),
            origin: self.origin.clone(),
            // Still in hand.
            claim: self.claim.clone(),
            settled: SetOnce::new(),
            contents: OnceLock::new(),
        }
    }

    /// Item `index` of this batch by itself, or all that is left from a damaged one on: as a message of this content type.
    pub(crate) fn item(&self, index: usize, raw: Bytes, content_type: Option<&str>) -> Self {
        let mut item = self.copy(self.attempt);
        item.body = raw;
        item.properties = of_item(&self.properties, index, content_type);
        item
    }

    /// A batch has been opened.
    pub(crate) fn open(&self, contents: Contents) -> &Contents {
        self.contents.get_or_init(|| Box::new(contents))
    }

    /// How long a handler has had it. The items of a batch that go to handlers one by one have each a time of their own.
    pub(crate) fn busy(&self) -> Option<Duration> {
        let busy = self.started.get()?.elapsed();
        Some(if self.apart().is_some() { Duration::ZERO } else { busy })
    }

    /// Its items, if they go to handlers one by one.
    pub(crate) fn apart(&self) -> Option<&Weak<Envelope>> {
        self.contents.get()?.apart.get()
    }

    /// Gives up items that a handler has had for longer than `limit`.
    pub(crate) fn expire_items(&self, limit: Duration) {
        if let Some(envelope) = self.apart().and_then(Weak::upgrade) {
            envelope.expire(limit);
        }
    }

    /// Notes what became of it, the first time; whoever waits to handle its message again may.
    pub(crate) fn settle_as(&self, settled: Settled) {
        let _ = self.settled.set(settled);
        // Lost, its handler goes on: until that has ended the message is in hand. A handler that was given up may never end.
        if (settled != Settled::Lost || self.given_up.load(Ordering::Acquire))
            && let Some(claim) = self.claim.get()
        {
            claim.release();
        }
    }

    /// It took too long and has been settled without its handler's answer: its place among the concurrent ones is free.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether that has happened; if not, wakes the task when it does.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.given_up.load(Ordering::Acquire)
    }

    /// A handler takes it.
    pub(crate) fn charge(&self, charge: Charge) {
        self.charge.get_or_init(|| charge);
    }

    /// It has been unpacked; a body that was not compressed is its own message.
    pub(crate) fn unpacked(&self, bytes: usize) {
        if bytes != self.body.len() {
            self.takes_more(bytes);
        }
    }

    /// More than its body is kept for it.
    pub(crate) fn takes_more(&self, bytes: usize) {
        if let Some(charge) = self.charge.get() {
            charge.add(bytes as u64);
        }
    }

    /// Others of its key may be handed out.
    pub(crate) fn free_key(&self) {
        if let Some(hold) = self.hold.get() {
            hold.free();
        }
    }

    /// It is settled: its bytes are no longer in anybody's hands, whatever its handler still does.
    pub(crate) fn release(&self) {
        if let Some(charge) = self.charge.get() {
            charge.release();
        }
    }

    pub(crate) fn wire(&self) -> fluffle_wire::Incoming<'_> {
        fluffle_wire::Incoming {
            content_type: self.properties.content_type().as_ref().map(|text| text.as_str()),
            content_encoding: self.properties.content_encoding().as_ref().map(|text| text.as_str()),
            type_name: self.properties.kind().as_ref().map(|text| text.as_str()),
            body: &self.body,
        }
    }

    /// Whether somebody waits for an answer. A reply address alone does not say so: see [`Requests::of`].
    pub(crate) fn wants_reply(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn message_id(&self) -> Option<&str> {
        self.properties.message_id().as_ref().map(|id| id.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<AmqpHeader<'_>> {
        lookup(&self.properties, name)
    }

    pub(crate) fn headers(&self) -> Option<&FieldTable> {
        self.properties.headers().as_ref()
    }
}

/// What item `index` of a message is known as.
pub(crate) fn item_id(id: &str, index: usize) -> String {
    format!("{id}/{index}")
}

/// Whether each of so many items has an id: `<id>/<index>` must fit into a short string (AMQP 0-9-1, section 4.2.5.3).
pub(crate) fn has_room_for_items(id: &str, items: usize) -> bool {
    item_id(id, items.saturating_sub(1)).len() <= usize::from(u8::MAX)
}

/// The properties of an item: its envelope's, but for those that speak of the batch. It asks for no answer.
fn of_item(envelope: &BasicProperties, index: usize, content_type: Option<&str>) -> BasicProperties {
    let mut item = BasicProperties::default();
    if let Some(id) = envelope.message_id() {
        item = item.with_message_id(item_id(id.as_str(), index).into());
    }
    if let Some(label) = content_type.or(envelope.content_type().as_ref().map(|label| label.as_str())) {
        item = item.with_content_type(label.into());
    }
    if let Some(headers) = envelope.headers() {
        item = item.with_headers(headers.clone());
    }
    if let Some(value) = envelope.kind() {
        item = item.with_type(value.clone());
    }
    if let Some(value) = envelope.correlation_id() {
        item = item.with_correlation_id(value.clone());
    }
    if let Some(value) = envelope.priority() {
        item = item.with_priority(*value);
    }
    if let Some(value) = envelope.timestamp() {
        item = item.with_timestamp(*value);
    }
    if let Some(value) = envelope.app_id() {
        item = item.with_app_id(value.clone());
    }
    item
}

/// A delivery between two attempts. Should its channel be lost meanwhile, nobody has it in hand any more.
pub(crate) struct Resting(Option<Received>);

impl Resting {
    pub(crate) fn new(received: Received) -> Self {
        Self(Some(received))
    }

    /// What it is remembered by, with effectively once.
    pub(crate) fn key(&self) -> Option<&str> {
        Some(&self.0.as_ref()?.claim.get()?.key)
    }

    /// For its next attempt.
    pub(crate) fn wake(mut self) -> Option<Received> {
        self.0.take()
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let Some(claim) = self.0.as_ref().and_then(|received| received.claim.get()) {
            claim.release();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lapin::types::AMQPValue;

    /// A delivery on attempt `attempt`, for the tests of this module's neighbours.
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
        if let Some(attempt) = Attempt::new(attempt) {
            received.attempt = attempt;
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
                Received::new(&"q".into(), 1, InVain::default(), Requests::default(), delivery).attempt,
                Attempt::FIRST
            );
        }
    }
}
