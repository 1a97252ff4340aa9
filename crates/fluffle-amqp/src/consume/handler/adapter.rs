//! Adapters for the two kinds of handlers, of single messages and of whole batches: make the handler's argument, and
//! turn its answer into an outcome.

use std::{any::TypeId, sync::Arc};

use bytes::Bytes;
use fluffle_wire::{DecodeError, Wire};

use crate::{
    base::{
        failure::Failure,
        one_of::{OneOf, Types},
    },
    consume::{
        attempt::{
            attempt::Attempt,
            contents::Contents,
            open,
            outcome::{ItemOutcomes, Outcome, Unusable},
        },
        handler::{
            batch::{DeliveryBatch, ItemFailures},
            delivery::Delivery,
        },
        spec::middleware::HandlerResult,
    },
};

/// The adapter for one kind of handler.
pub(crate) trait Adapter: 'static {
    type Message: 'static;
    type Answer: 'static;

    /// Whether the items of a batch go to the handler one by one.
    const APART: bool;

    /// Whether the handlers answer with a type other than `()`.
    fn answers() -> bool;

    /// The contents of a batch; `None` for a single message. If the batch cannot be opened, the error is its outcome.
    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome>;

    /// The handler's argument for a whole delivery.
    fn whole(&self, attempt: &Arc<Attempt>) -> Result<Self::Message, DecodeError>;

    /// The handler's argument for one item of a batch, if items go one by one.
    fn item(&self, attempt: &Arc<Attempt>, index: usize, raw: &Bytes) -> Result<Self::Message, DecodeError>;

    /// What the handler's answer tells a middleware.
    fn result(answer: &Result<Self::Answer, Failure>) -> HandlerResult<'_>;

    /// The outcome that the handler's answer stands for.
    fn outcome(&self, attempt: &Attempt, answer: Result<Self::Answer, Failure>) -> Outcome;
}

/// The adapter for a `Handler<Delivery<T, R>>`.
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

    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome> {
        open::open(&self.wire, attempt)
    }

    fn whole(&self, attempt: &Arc<Attempt>) -> Result<Self::Message, DecodeError> {
        let message = attempt.note_read(self.wire.read(&attempt.wire())?);
        Ok(Delivery::new(message, Arc::clone(attempt)))
    }

    fn item(&self, attempt: &Arc<Attempt>, index: usize, raw: &Bytes) -> Result<Self::Message, DecodeError> {
        Ok(Delivery::item(self.wire.decode_item(&attempt.label_of_item(index), raw)?, Arc::clone(attempt), index))
    }

    fn result(answer: &Result<R, Failure>) -> HandlerResult<'_> {
        answer.as_ref().map_or_else(HandlerResult::Failed, |_| HandlerResult::Handled)
    }

    /// The answer is encoded only if the sender asked for one, in the format of the request.
    fn outcome(&self, attempt: &Attempt, answer: Result<R, Failure>) -> Outcome {
        match answer {
            Ok(_) if !attempt.wants_reply() => Outcome::Handled(None),
            Ok(answer) => match self.reply.encode_like(attempt.content_type(), &answer) {
                Ok(encoded) => Outcome::Handled(Some(encoded)),
                Err(error) => Outcome::Unusable(Unusable::Answer(error)),
            },
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

/// The adapter for a `Handler<DeliveryBatch<T>>`.
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

    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome> {
        open::open(&self.wire, attempt)
    }

    fn whole(&self, attempt: &Arc<Attempt>) -> Result<Self::Message, DecodeError> {
        if attempt.contents().is_some() {
            return Ok(DeliveryBatch::new(self.wire.clone(), Arc::clone(attempt), None));
        }
        let message = attempt.note_read(self.wire.read(&attempt.wire())?);
        Ok(DeliveryBatch::new(self.wire.clone(), Arc::clone(attempt), Some(message)))
    }

    /// Never called, because the items of a batch go to the handler together.
    fn item(&self, attempt: &Arc<Attempt>, _: usize, _: &Bytes) -> Result<Self::Message, DecodeError> {
        self.whole(attempt)
    }

    fn result(answer: &Result<ItemFailures, Failure>) -> HandlerResult<'_> {
        match answer {
            Ok(failures) if failures.is_empty() => HandlerResult::Handled,
            Ok(failures) => HandlerResult::ItemsFailed(failures.as_slice()),
            Err(failure) => HandlerResult::Failed(failure),
        }
    }

    fn outcome(&self, attempt: &Attempt, answer: Result<ItemFailures, Failure>) -> Outcome {
        let (failures, contents) = match (answer, attempt.contents()) {
            (Err(failure), _) => return Outcome::Failed(failure),
            (Ok(failures), None) => return failures.first().map_or(Outcome::Handled(None), Outcome::Failed),
            (Ok(failures), Some(contents)) => (failures, contents),
        };
        // An item that cannot be decoded was not handled, even if the handler does not name it as failed.
        let unreadable =
            contents.unreadable(|index, raw| self.wire.decode_item(&attempt.label_of_item(index), raw).err());
        let undecodable = |(index, error)| (index, Arc::new(Outcome::Undecodable(error)));
        let mut failed: Vec<_> = unreadable.into_iter().map(undecodable).collect();
        let places: Vec<usize> = contents.new_items(..).collect();
        for (index, failure) in failures {
            match places.get(index) {
                Some(item) => failed.push((*item, Arc::new(Outcome::Failed(failure)))),
                None => {
                    tracing::error!(
                        queue = %attempt.queue, message_id = attempt.id_or_dash(),
                        attempt = attempt.attempt_number.get(), trace_id = attempt.trace_id(), index,
                        "a handler failed an item that its batch does not have: the other items are settled"
                    )
                }
            }
        }
        failed.sort_by_key(|(index, _)| *index);
        failed.dedup_by_key(|(index, _)| *index);
        Outcome::Items(ItemOutcomes { until: contents.items.len(), failed })
    }
}

/// The adapter for an actor with a handler for each of the types `L`.
pub(crate) struct OneOfEach<L, R>(pub(crate) OneByOne<OneOf<L>, R>);

impl<L: Types, R: 'static> Adapter for OneOfEach<L, R> {
    type Message = Delivery<OneOf<L>, R>;
    type Answer = R;

    const APART: bool = true;

    fn answers() -> bool {
        OneByOne::<OneOf<L>, R>::answers()
    }

    fn open(&self, attempt: &Attempt) -> Result<Option<Contents>, Outcome> {
        self.0.open(attempt)
    }

    fn whole(&self, attempt: &Arc<Attempt>) -> Result<Self::Message, DecodeError> {
        self.0.whole(attempt)
    }

    fn item(&self, attempt: &Arc<Attempt>, index: usize, raw: &Bytes) -> Result<Self::Message, DecodeError> {
        self.0.item(attempt, index, raw)
    }

    fn result(answer: &Result<R, Failure>) -> HandlerResult<'_> {
        OneByOne::<OneOf<L>, R>::result(answer)
    }

    fn outcome(&self, attempt: &Attempt, answer: Result<R, Failure>) -> Outcome {
        self.0.outcome(attempt, answer)
    }
}
