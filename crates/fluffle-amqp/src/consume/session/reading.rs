//! What a session does for a stream only: looks at offsets, and keeps them.

use std::{sync::Arc, time::Duration};

use lapin::{message::Delivery, types::AMQPValue};
use tokio::task::JoinHandle;

use crate::{
    base::events::DeliveryEvent,
    consume::{
        attempt::{attempt::Attempt, outcome::Outcome},
        message::progress::StreamPosition,
        session::{end::End, session::Session, subscription::Subscribe},
        settle::{commands::Commands, reader::Reader},
    },
};

/// In this header the broker says where a message is in its stream.
const OFFSET: &str = "x-stream-offset";

/// The header that a stream's filter looks at.
const FILTER_VALUE: &str = "x-stream-filter-value";

/// How long a stream may deliver nothing to a reader that goes on behind an offset it has read. It delivers that offset
/// again, so silence means that the stream does not have it.
const SILENT: Duration = Duration::from_secs(10);

/// The task that keeps offsets while a session lives. Dropped, it ends; a write that is under way may still happen.
pub(super) struct Keeping(JoinHandle<()>);

impl Keeping {
    pub(super) fn start(reader: &Arc<Reader>) -> Self {
        let reader = Arc::clone(reader);
        Self(actix::spawn(async move { reader.keep_on().await }))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an offset says of a delivery.
pub(super) enum Placed {
    /// It is new, or from a queue.
    Here(Option<Box<StreamPosition>>),
    /// It is done already, or the reader's filter leaves it out.
    Done,
}

/// The offset of a delivery; `None` if it is not from a stream.
fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// Whether the reader's filter lets the delivery pass. The broker filters chunks, and delivers more than that.
fn passes(reader: &Reader, delivery: &Delivery) -> bool {
    let Some(filter) = &reader.spec.filter else { return true };
    let value = delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(FILTER_VALUE));
    match value {
        Some(AMQPValue::LongString(value)) => filter.values.iter().any(|one| one.as_bytes() == value.as_bytes()),
        Some(_) => false,
        None => filter.also_without,
    }
}

impl<S: Subscribe, C: Commands> Session<S, C> {
    /// The end of a session that should read a stream, and whose queue is none.
    pub(super) fn no_stream(&self, delivery: &Delivery) -> Option<End> {
        (self.settings.reader.is_some() && offset(delivery).is_none()).then_some(End::NotAStream)
    }

    /// Looks at the offset of a delivery. One that is done is acked here, which asks the broker for another one.
    pub(super) fn place(&mut self, delivery: &Delivery) -> Placed {
        let Some((reader, offset)) = self.settings.reader.as_ref().zip(offset(delivery)) else {
            return Placed::Here(None);
        };
        let arrived = reader.progress.arrived(offset, reader.spec.filter.is_some());
        if arrived.removed > 0 {
            tracing::warn!(
                queue = %self.settings.queue, stream = reader.stream(), offset, removed = arrived.removed,
                "the stream no longer has offsets that the reader had not read, because retention has removed them: \
                 the reader goes on with the first that there is. Keep messages for longer, or read faster"
            );
            self.settings.events.emit(DeliveryEvent::OffsetsRemoved { offsets: arrived.removed });
        }
        if !arrived.is_done {
            if passes(reader, delivery) {
                return Placed::Here(Some(Box::new(reader.position(offset))));
            }
            reader.progress.done(offset);
        }
        self.gate.delivered(delivery.delivery_tag);
        self.settlements.delivered(delivery.delivery_tag);
        self.settlements.ack_on_arrival(delivery.delivery_tag);
        Placed::Done
    }

    /// Work is done whose channel was lost. An offset is the same on every channel, so it is done all the same.
    pub(super) fn note_offset(attempt: &Attempt, outcome: &Outcome) {
        let is_done = match (outcome, attempt.contents()) {
            (Outcome::Handled(_), _) => true,
            (Outcome::Items(items), Some(all)) => items.failed.is_empty() && items.is_complete(all.items.len()),
            _ => false,
        };
        if let (Some(position), true) = (&attempt.position, is_done) {
            position.progress.done(position.offset);
        }
    }

    /// Logs an error if the stream does not deliver what it delivered before.
    pub(super) fn look_at_silence(&self) {
        let Some(reader) = self.settings.reader.as_ref().filter(|_| self.subscription.prefetch().is_some()) else {
            return;
        };
        if let Some(offset) = reader.progress.overdue(SILENT) {
            tracing::error!(
                queue = %self.settings.queue, stream = reader.stream(), offset, for_ = ?SILENT,
                "the stream delivers neither this offset, which the reader has read, nor a later one: it was probably \
                 deleted and declared again, and counts from 0. Nothing is read until it gets there. To read the new \
                 stream from its beginning, stop the reader and forget its offset in the store"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, types::FieldTable};

    use super::*;
    use crate::{Offsets, StreamReader};

    fn delivery(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Delivery {
        let mut table = FieldTable::default();
        headers.into_iter().for_each(|(name, value)| table.insert(name.into(), value));
        let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_headers(table);
        delivery
    }

    #[test]
    fn an_offset_is_what_the_broker_writes_and_nothing_else() {
        assert_eq!(offset(&delivery([(OFFSET, AMQPValue::LongLongInt(7))])), Some(7));
        for nonsense in [AMQPValue::LongLongInt(-1), AMQPValue::LongUInt(7), AMQPValue::LongString("7".into())] {
            assert_eq!(offset(&delivery([(OFFSET, nonsense)])), None);
        }
        assert_eq!(offset(&delivery([])), None);
    }

    #[tokio::test]
    async fn what_the_broker_delivers_beside_the_filter_is_left_out() {
        let valued = |value: &str| delivery([(FILTER_VALUE, AMQPValue::LongString(value.into()))]);
        let reader = |spec: fn(StreamReader) -> StreamReader| {
            Reader::new(&spec(StreamReader::new("r", Offsets::in_memory().expect("a store"))))
        };
        let filtered = reader(|spec| spec.filter(["berlin", "paris"]));
        assert!(passes(&filtered, &valued("paris")) && !passes(&filtered, &valued("rome")));
        assert!(!passes(&filtered, &delivery([])));
        assert!(!passes(&filtered, &delivery([(FILTER_VALUE, AMQPValue::LongLongInt(1))])));
        let also = reader(|spec| spec.filter(["berlin"]).also_unfiltered());
        assert!(passes(&also, &delivery([])) && !passes(&also, &valued("rome")));
        assert!(passes(&reader(|spec| spec), &valued("rome")));
    }
}
