//! What a session does for a stream only: looks at offsets, and at what does not come.

use std::time::Duration;

use lapin::message::Delivery;

use crate::{
    base::events::DeliveryEvent,
    consume::{
        attempt::{attempt::Attempt, outcome::Outcome},
        session::{
            end::End,
            session::Session,
            stream::{Placed, offset, passes},
            subscription::Subscribe,
        },
        settle::commands::Commands,
    },
};

/// How long a stream may deliver nothing to a reader that goes on behind an offset it has read. It delivers that offset
/// again, so silence means that the stream does not have it.
const SILENT: Duration = Duration::from_secs(10);

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
