//! Room for a record, reserved before the record exists.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    AppendError, AppendErrorKind, Enqueued, Journal, Record,
    command::{Append, Command},
    record::small,
};
use crate::writer::HeldSlot;

/// Room in the journal and a slot in its thread's queue, reserved for a record that is posted later; see
/// [`Journal::reserve`]. If it is dropped unused, the room is given back. While a `Place` exists, [`Journal::close`]
/// waits for it.
#[must_use = "a place holds room that other appends may wait for"]
pub struct Place {
    room: Room,
    slot: HeldSlot<Command>,
}

impl Place {
    /// Appends the record. Records are ordered by these calls. The record stays even if the returned future is dropped.
    /// Room that was reserved but is not needed is given back. This never waits.
    ///
    /// # Errors
    ///
    /// If the record is larger than the reserved size, or its id is too long, it comes back in an [`AppendError`].
    pub fn post(mut self, record: Record) -> Result<Enqueued, AppendError> {
        let journal = self.room.journal.clone();
        let size = match journal.size(&record) {
            Ok(size) if size <= self.room.size => size,
            Ok(size) => {
                let kind = AppendErrorKind::TooLarge { size: size.into(), max_bytes: self.room.size.into() };
                return Err(AppendError { record, kind });
            }
            Err(kind) => return Err(AppendError { record, kind }),
        };
        // From here on the journal's thread gives this room back.
        self.room.size -= size;
        let (reply, answer) = oneshot::channel();
        let record = Arc::new(record);
        journal.0.shared.counts.add(size);
        self.slot.send(Command::Append(Append { record: Arc::clone(&record), size, keep: true, reply }));
        Ok(Enqueued { answer, record, journal, keep: true })
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("bytes", &self.room.size).finish_non_exhaustive()
    }
}

/// Reserved bytes of the journal. Dropping this gives them back.
struct Room {
    journal: Journal,
    size: u32,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.journal.0.shared.release(self.size);
    }
}

impl Journal {
    /// Waits for room for a record of up to `size` bytes ([`Record::size`]). The record can be [posted](Place::post)
    /// later without waiting. Use it if the record is still being made.
    ///
    /// Cancel safe: if the future is dropped before it resolves, nothing stays reserved.
    ///
    /// # Errors
    ///
    /// The same as for [`enqueue`](Self::enqueue): if there is no room, if `size` exceeds the journal's limit, or if
    /// the journal is closed.
    pub async fn reserve(&self, size: u64) -> Result<Place, AppendErrorKind> {
        let max_bytes = self.0.options.max_bytes;
        if size > max_bytes {
            return Err(AppendErrorKind::TooLarge { size, max_bytes });
        }
        let size = small(size);
        self.room(size).await?.forget();
        let room = Room { journal: self.clone(), size };
        let slot = self.0.writer.held_slot().await?;
        Ok(Place { room, slot })
    }
}
