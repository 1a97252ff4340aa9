//! The totals of a publisher.

use std::{
    sync::atomic::{AtomicU64, Ordering, fence},
    time::Duration,
};

/// The totals of one publisher since it was made. They are never reset, and each message that was accepted is in one of
/// the others: `accepted = confirmed + returned + nacked + failed + withdrawn + outstanding`. `republished` and `kept`
/// count what happens to a message before its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Messages accepted, those in open batches included. With a journal also those that an earlier process has left
    /// there, when they are read.
    pub accepted: u64,
    /// Messages that the broker confirmed. Without confirms: messages written to the socket.
    pub confirmed: u64,
    /// Messages that the broker returned because no queue took them.
    pub returned: u64,
    /// Messages that the broker nacked.
    pub nacked: u64,
    /// Messages published again under the same id after a channel was lost.
    pub republished: u64,
    /// Messages that failed for any other reason.
    pub failed: u64,
    /// Messages whose sender had stopped waiting before they were sent, or before they were sent again.
    pub withdrawn: u64,
    /// How often messages in a journal failed and no sender took them back, so that they are published again. They are
    /// outstanding until then.
    pub kept: u64,
    /// Messages accepted and not settled at this moment: in an open batch, in the mailbox or the journal, on the wire,
    /// or waiting for a connection.
    pub outstanding: usize,
}

/// The journal of a publisher at a glance. It counts records: a message, or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStatus {
    /// Records that the broker has not confirmed. A confirm may be counted 50 ms late.
    pub unconfirmed: u64,
    /// The bytes of those records, as the journal counts them.
    pub bytes: u64,
    /// The age of the oldest of them: the time since its message was accepted, or its batch opened. It is that of the
    /// call before, so `None` at the first call; and `None` if there was none, or if the application chose its id.
    pub oldest: Option<Duration>,
    /// How many of them failed and wait for another try.
    pub waiting_again: usize,
    /// How many of them failed, and their senders have neither read that nor gone.
    pub handed_back: usize,
}

impl PublisherStats {
    /// The totals of two lanes together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            confirmed: self.confirmed + other.confirmed,
            returned: self.returned + other.returned,
            nacked: self.nacked + other.nacked,
            republished: self.republished + other.republished,
            failed: self.failed + other.failed,
            withdrawn: self.withdrawn + other.withdrawn,
            kept: self.kept + other.kept,
            outstanding: self.outstanding + other.outstanding,
        }
    }
}

/// The counters behind [`PublisherStats`].
#[derive(Default)]
pub(crate) struct PublisherCounters {
    pub(crate) accepted: Total,
    pub(crate) confirmed: Total,
    pub(crate) returned: Total,
    pub(crate) nacked: Total,
    pub(crate) republished: Total,
    pub(crate) failed: Total,
    pub(crate) withdrawn: Total,
    pub(crate) kept: Total,
}

impl PublisherCounters {
    pub(crate) fn read(&self, outstanding: usize) -> PublisherStats {
        PublisherStats {
            accepted: self.accepted.get(),
            confirmed: self.confirmed.get(),
            returned: self.returned.get(),
            nacked: self.nacked.get(),
            republished: self.republished.get(),
            failed: self.failed.get(),
            withdrawn: self.withdrawn.get(),
            kept: self.kept.get(),
            outstanding,
        }
    }
}

/// A running total that can begin to be listened to at any time. The total itself says of each addition whether its
/// listeners hear of it, so none is missed and none is heard of twice, without a lock.
#[derive(Default)]
pub(crate) struct Total(AtomicU64);

/// Set in a total once it is listened to.
const HEARD: u64 = 1 << 63;

impl Total {
    /// Adds, and says whether it is listened to: then what made it so is visible here.
    #[inline]
    pub(crate) fn add(&self, more: usize) -> bool {
        let is_heard = self.0.fetch_add(more as u64, Ordering::Relaxed) & HEARD != 0;
        if is_heard {
            fence(Ordering::Acquire);
        }
        is_heard
    }

    /// From now on it is listened to. Gives what was added before.
    pub(crate) fn listen(&self) -> u64 {
        self.0.fetch_or(HEARD, Ordering::AcqRel) & !HEARD
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !HEARD
    }
}
