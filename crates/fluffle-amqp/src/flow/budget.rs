//! How many bytes may be under way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// 64 MiB: what a consumer's handlers, and what a publisher, have in hand.
pub(crate) const DEFAULT_BYTES: u64 = 64 * 1024 * 1024;

/// A count of bytes with a limit, which a single one larger than the limit may break, alone.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Somebody was refused, and nobody has been told since that there is room.
    refused: AtomicBool,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0), refused: AtomicBool::new(false) }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is room for `bytes` more; if not, [`give_back`](Self::give_back) will say when to ask again. For
    /// one at a time.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        self.refused.store(true, Ordering::SeqCst);
        // What was given back in between has told nobody.
        self.has_room(bytes)
    }

    fn has_room(&self, bytes: u64) -> bool {
        let used = self.used.load(Ordering::SeqCst);
        used == 0 || used.saturating_add(bytes) <= self.limit
    }

    /// Counts `bytes`, room or not: what fits is asked before, what a body unpacks to is known only afterwards.
    pub(crate) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Takes `bytes` off again, each that was [taken](Self::take) once; whether somebody waits for them.
    #[must_use]
    pub(crate) fn give_back(&self, bytes: u64) -> bool {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.refused.load(Ordering::SeqCst) && self.refused.swap(false, Ordering::SeqCst)
    }
}

/// A [`Budget`] one waits for, first come, first served.
#[derive(Debug)]
pub(crate) struct ByteRoom {
    bytes: Arc<Semaphore>,
    limit: u32,
}

/// Room taken, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back what is more than `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.num_permits().saturating_sub(bytes);
        drop(self.bytes.split(more));
    }
}

/// There was no room, or there never will be.
#[derive(Debug, PartialEq)]
pub(crate) enum NoRoom {
    Full,
    Closed,
}

impl ByteRoom {
    /// For `limit` bytes: at least 1, at most 4 GiB.
    pub(crate) fn new(limit: u64) -> Self {
        // 32 bits is what one permit can count; 32-bit machines have less room than that.
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, most);
        Self { bytes: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    /// Waits for room. Cancellation safe.
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

    /// Nothing gets in any more, and who waits is told.
    pub(crate) fn close(&self) {
        self.bytes.close();
    }

    /// One larger than the whole takes the whole, and so goes alone.
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
