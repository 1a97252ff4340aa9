//! Limits on the bytes of messages in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The default limit, in bytes: 64 MiB for the handlers of a consumer, and 64 MiB for a publisher.
pub(crate) const DEFAULT_BYTES: u64 = 64 * 1024 * 1024;

/// A count of bytes with a limit. A single message that is larger than the limit is admitted when nothing else is
/// counted.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Whether a call of `fits` was refused and no `give_back` has reported it since.
    refused: AtomicBool,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0), refused: AtomicBool::new(false) }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is room for `bytes` more. If not, the next [`give_back`](Self::give_back) returns true, which says
    /// when to ask again. Only one task may ask.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        self.refused.store(true, Ordering::SeqCst);
        // Bytes that were given back before the flag was set were not reported, so look again.
        self.has_room(bytes)
    }

    fn has_room(&self, bytes: u64) -> bool {
        let used = self.used.load(Ordering::SeqCst);
        used == 0 || used.saturating_add(bytes) <= self.limit
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts `bytes`, even past the limit. Callers ask [`fits`](Self::fits) before, but the unpacked size of a body is
    /// known only afterwards.
    pub(crate) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Takes `bytes` off the count; give back exactly what was [taken](Self::take). Returns whether a task waits for
    /// room.
    #[must_use]
    pub(crate) fn give_back(&self, bytes: u64) -> bool {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.refused.load(Ordering::SeqCst) && self.refused.swap(false, Ordering::SeqCst)
    }
}

/// A limit on bytes whose callers wait for room, first come, first served.
#[derive(Debug)]
pub(crate) struct ByteRoom {
    bytes: Arc<Semaphore>,
    limit: u32,
}

/// Room that was taken; dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back the room in excess of `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.num_permits().saturating_sub(bytes);
        drop(self.bytes.split(more));
    }
}

/// Why no room was given.
#[derive(Debug, PartialEq)]
pub(crate) enum NoRoom {
    /// There is no room now.
    Full,
    /// [`ByteRoom::close`] was called: there will be no room again.
    Closed,
}

impl ByteRoom {
    /// Room for `limit` bytes, clamped to 1 byte to 4 GiB.
    pub(crate) fn new(limit: u64) -> Self {
        // A semaphore's permit counts 32 bits; on 32-bit machines the semaphore's own limit is lower.
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, most);
        Self { bytes: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    /// Waits for room. Cancellation: a future that is dropped takes no room and loses its place in line.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Room, NoRoom> {
        match Arc::clone(&self.bytes).acquire_many_owned(self.cost(bytes)).await {
            Ok(permit) => Ok(Room { bytes: permit }),
            Err(_) => Err(NoRoom::Closed),
        }
    }

    pub(crate) fn try_take(&self, bytes: usize) -> Result<Room, NoRoom> {
        match Arc::clone(&self.bytes).try_acquire_many_owned(self.cost(bytes)) {
            Ok(permit) => Ok(Room { bytes: permit }),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(NoRoom::Full),
            Err(tokio::sync::TryAcquireError::Closed) => Err(NoRoom::Closed),
        }
    }

    /// How many bytes are taken, and the limit.
    pub(crate) fn taken(&self) -> (u64, u64) {
        let free = self.bytes.available_permits() as u64;
        (u64::from(self.limit).saturating_sub(free), self.limit.into())
    }

    /// Refuses all further callers, and wakes those that wait with [`NoRoom::Closed`].
    pub(crate) fn close(&self) {
        self.bytes.close();
    }

    /// A message larger than the limit takes all of the room, so it is alone.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_the_budget_goes_alone() {
        let budget = Budget::new(100);
        assert!(budget.fits(1000));
        budget.take(60);
        assert!(budget.fits(40) && !budget.fits(41) && !budget.fits(1000));
        budget.take(500);
        assert!(!budget.fits(0), "overdrawn by what a body unpacked to");
        assert!(budget.give_back(560), "somebody waits");
        assert!(budget.fits(1000));
        budget.take(1);
        assert!(!budget.give_back(1), "nobody was refused since");
    }

    #[tokio::test]
    async fn room_comes_back_and_what_is_larger_than_all_of_it_takes_all_of_it() {
        let room = ByteRoom::new(100);
        let small = room.try_take(1).unwrap();
        assert_eq!(room.try_take(1000).unwrap_err(), NoRoom::Full);
        drop(small);
        let large = room.take(1000).await.unwrap();
        assert_eq!(room.try_take(1).unwrap_err(), NoRoom::Full);
        drop(large);
        let mut shrunk = room.take(100).await.unwrap();
        shrunk.shrink(60);
        shrunk.shrink(1000);
        assert_eq!(room.try_take(41).unwrap_err(), NoRoom::Full);
        drop(room.try_take(40).unwrap());
        room.close();
        assert_eq!(room.take(1).await.unwrap_err(), NoRoom::Closed);
    }
}
