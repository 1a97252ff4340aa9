//! What a handler is given, and what its answer means: one message at a time, or a batch at once.

use std::{any::TypeId, sync::Arc};

use actix::Message;
use bytes::Bytes;
use fluffle_wire::{DecodeError, Wire};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::envelope::{Contents, ItemOutcomes},
        handler::{
            batch::{DeliveryBatch, ItemFailures},
            delivery::Delivery,
            dispatch::Dispatch,
        },
        intake::seen::Seen,
        message::received::{Received, has_room_for_items},
        queue::handler_queue::{HandlerQueue, Outcome},
    },
};

pub(crate) trait Adapter: 'static {
    type Message: Message<Result = Result<Self::Answer, Failure>> + 'static;
    type Answer: 'static;

    /// Whether the items of a batch are handed over one by one.
    const APART: bool;

    /// Whether its handlers answer with more than `()`.
    fn answers() -> bool;

    /// What is in a batch; `None` when it is a message by itself. One that cannot be opened has its outcome already.
    fn open(&self, received: &Received) -> Result<Option<Contents>, Outcome>;

    /// All of a delivery.
    fn whole(&self, received: &Arc<Received>) -> Result<Self::Message, DecodeError>;

    /// One item of a batch, if they go one by one.
    fn item(&self, received: &Arc<Received>, index: usize, raw: &Bytes) -> Result<Self::Message, DecodeError>;

    fn outcome(&self, received: &Received, answer: Result<Self::Answer, Failure>) -> Outcome;
}

/// What the handler instances of one consumer are fed from.
#[derive(Clone)]
pub(crate) struct Feeder<F> {
    pub(crate) handler_queue: Arc<HandlerQueue>,
    pub(crate) seen: Option<Seen>,
    /// Makes the [`Adapter`] of one instance.
    pub(crate) adapter: F,
}

impl<D: Adapter, F: Fn() -> D> Feeder<F> {
    pub(crate) fn dispatch(&self, instance: usize, concurrency: usize) -> Dispatch<D> {
        let handler_queue = Arc::clone(&self.handler_queue);
        Dispatch::new(handler_queue, instance, Arc::new((self.adapter)()), self.seen.clone(), concurrency)
    }
}

/// To a `Handler<Delivery<T, R>>`.
pub(crate) struct OneByOne<T, R> {
    pub(crate) wire: Wire<T>,
    pub(crate) reply: Wire<R>,
}

impl<T: 'static, R: 'static> Adapter for OneByOne<T, R> {
    type Message = Delivery<T, R>;
    type Answer = R;

    const APART: bool = true;

    fn answers() -> bool {
        TypeId::of::<R>() != TypeId::of::<()>()
    }

    fn open(&self, received: &Received) -> Result<Option<Contents>, Outcome> {
        open(&self.wire, received)
    }

    fn whole(&self, received: &Arc<Received>) -> Result<Self::Message, DecodeError> {
        let (message, unpacked) = self.wire.decode_sized(&received.wire())?;
        received.unpacked(unpacked);
        Ok(Delivery::new(message, Arc::clone(received)))
    }

    fn item(&self, received: &Arc<Received>, index: usize, raw: &Bytes) -> Result<Self::Message, DecodeError> {
        Ok(Delivery::item(self.wire.decode_item(raw)?, Arc::clone(received), index))
    }

    /// The answer is encoded only when somebody asked for one.
    fn outcome(&self, received: &Received, answer: Result<R, Failure>) -> Outcome {
        match answer {
            Ok(_) if !received.wants_reply() => Outcome::Handled(None),
            Ok(answer) => match self.reply.encode(&answer) {
                Ok(encoded) => Outcome::Handled(Some(encoded)),
                Err(error) => Outcome::Failed(Failure::reject(error)),
            },
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

/// To a `Handler<DeliveryBatch<T>>`.
pub(crate) struct AllAtOnce<T> {
    pub(crate) wire: Wire<T>,
}

impl<T: 'static> Adapter for AllAtOnce<T> {
    type Message = DeliveryBatch<T>;
    type Answer = ItemFailures;

    const APART: bool = false;

    fn answers() -> bool {
        false
    }

    fn open(&self, received: &Received) -> Result<Option<Contents>, Outcome> {
        open(&self.wire, received)
    }

    fn whole(&self, received: &Arc<Received>) -> Result<Self::Message, DecodeError> {
        if received.contents.get().is_some() {
            return Ok(DeliveryBatch::new(self.wire.clone(), Arc::clone(received), None));
        }
        let (message, unpacked) = self.wire.decode_sized(&received.wire())?;
        received.unpacked(unpacked);
        Ok(DeliveryBatch::new(self.wire.clone(), Arc::clone(received), Some(message)))
    }

    /// Not asked for, and the same as the whole.
    fn item(&self, received: &Arc<Received>, _: usize, _: &Bytes) -> Result<Self::Message, DecodeError> {
        self.whole(received)
    }

    fn outcome(&self, received: &Received, answer: Result<ItemFailures, Failure>) -> Outcome {
        let (failures, contents) = match (answer, received.contents.get()) {
            (Err(failure), _) => return Outcome::Failed(failure),
            (Ok(failures), None) => return failures.first().map_or(Outcome::Handled(None), Outcome::Failed),
            (Ok(failures), Some(contents)) => (failures, contents),
        };
        // What could not be read was not handled, whatever its handler says.
        let mut failed = contents.unreadable(|raw| self.wire.decode_item(raw).err());
        let places: Vec<usize> = contents.new_items(..).collect();
        for (index, failure) in failures {
            match places.get(index) {
                Some(item) => failed.push((*item, Arc::new(Outcome::Failed(failure)))),
                None => {
                    tracing::error!(queue = %received.queue, index, "a failure for an item that the batch does not have")
                }
            }
        }
        failed.sort_by_key(|(index, _)| *index);
        failed.dedup_by_key(|(index, _)| *index);
        Outcome::Items(ItemOutcomes { until: contents.items.len(), failed })
    }
}

pub(crate) fn open<T>(wire: &Wire<T>, received: &Received) -> Result<Option<Contents>, Outcome> {
    let incoming = received.wire();
    if incoming.content_type.is_none_or(|label| label == wire.content_type()) || !incoming.is_batch() {
        return Ok(None);
    }
    let batch = wire.decode_batch(&incoming).map_err(Outcome::Undecodable)?;
    received.unpacked(batch.bytes());
    if received.wants_reply() {
        return Err(Outcome::Failed(Failure::reject("a batch asks for an answer: ask for each by itself")));
    }
    let items = batch.raw_items();
    if let Some(id) = received.message_id()
        && !has_room_for_items(id, items.len())
    {
        let why = "the id of a batch is too long: `<id>/<number of the item>` may have 255 bytes";
        return Err(Outcome::Failed(Failure::reject(why)));
    }
    Ok(Some(Contents::new(items, wire.content_type())))
}
