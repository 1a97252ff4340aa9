//! A record's place, taken before the record is there.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    AppendError, AppendErrorKind, Enqueued, Journal, Record,
    keeper::{Append, Command},
    table::small,
};
use crate::writer::HeldSlot;

/// Room in the journal and in its thread's queue, held for a record to come; see [`Journal::reserve`]. Dropped unused, it is
/// given back. While it is held, [`Journal::close`] waits for it.
#[must_use = "it holds room that others wait for"]
pub struct Place {
    room: Room,
    slot: HeldSlot<Command>,
}

impl Place {
    /// Gives the record its place in the order, which is that of these calls; it stays when what this returns is dropped.
    /// What it needs less than was reserved is given back. Waits for nothing.
    ///
    /// # Errors
    ///
    /// The record comes back in an [`AppendError`] when it is larger than what was reserved, or its id too long.
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
        // From here on the thread gives it back.
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

/// Given back when dropped.
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
    /// Waits for room for a record of up to `size` bytes ([`Record::size`]), to be [posted](Place::post) later without a wait:
    /// for one that is still being made.
    ///
    /// Cancel safe: dropped before it resolves, nothing is held.
    ///
    /// # Errors
    ///
    /// As of [`enqueue`](Self::enqueue), where there is no room, it would never fit, or the journal is closed.
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
