//! How far a reader has come in its stream.
//!
//! Offsets outlive channels: an offset is the same on every channel, so work that ends after its channel was lost still
//! counts. What was delivered and is not done is in `open`. All other offsets below `end` are done. Gaps between
//! offsets, which filters make, are therefore done as well.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// The progress of one reader, on all its channels.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    /// Notified when offsets are done, for the task that keeps them.
    done: Notify,
    /// Notified when an offset was kept, for acks that wait for it.
    kept: Notify,
    /// Notified when offsets are done, for handlers that wait for their turn.
    turn: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Delivered and not done.
    open: BTreeSet<u64>,
    /// One past the highest offset that was delivered or, at the beginning, kept.
    end: Option<u64>,
    /// What the store keeps: the first offset that is not done.
    kept: Option<u64>,
    /// Set until the first delivery of a subscription.
    awaited: Option<Awaited>,
}

/// What a subscription should deliver first.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// The first offset to be handled.
    offset: u64,
    /// Since when, if the stream must have it or a later one, and nobody was told that it is late.
    overdue_since: Option<Instant>,
}

/// Where a subscription begins that goes on with what was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The offset to ask the broker for.
    pub(crate) from: u64,
    /// Whether `from` was read before, so that the broker must have it or a later one.
    pub(crate) was_read: bool,
}

/// What is known of a delivery of a stream by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArrivedAt {
    /// It is done already, so it is not handled.
    pub(crate) is_done: bool,
    /// So many offsets before it were to be handled, and the stream no longer has them.
    pub(crate) removed: u64,
}

/// The offsets of a reader at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) next: Option<u64>,
    pub(crate) end: Option<u64>,
    pub(crate) kept: Option<u64>,
}

impl State {
    /// The first offset that is not done.
    fn next(&self) -> Option<u64> {
        self.open.first().copied().or(self.end)
    }
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has said what it keeps.
    pub(crate) fn loaded(&self, kept: Option<u64>) {
        let mut state = self.state();
        state.kept = kept;
        state.end = state.end.max(kept);
    }

    /// A subscription begins. `None` if nothing was read or kept so far. `wanted`: the offset that the application
    /// begins with in that case, if it named one.
    pub(crate) fn resume(&self, wanted: Option<u64>) -> Option<Resume> {
        let mut state = self.state();
        let Some(offset) = state.next() else {
            state.awaited = wanted.map(|offset| Awaited { offset, overdue_since: None });
            return None;
        };
        // What is open was delivered, so it is its own proof. Else the last one that is done is asked for again: only
        // that shows whether the stream goes on where the reader stopped.
        let from = if state.open.is_empty() { offset.saturating_sub(1) } else { offset };
        let was_read = from < offset || !state.open.is_empty();
        state.awaited = Some(Awaited { offset, overdue_since: was_read.then(Instant::now) });
        Some(Resume { from, was_read })
    }

    /// The offset that the present subscription should have delivered `limit` ago, and has not. `Some` only once for
    /// each subscription.
    pub(crate) fn overdue(&self, limit: Duration) -> Option<u64> {
        let mut state = self.state();
        let awaited = state.awaited.as_mut()?;
        awaited.overdue_since.take_if(|since| since.elapsed() >= limit)?;
        Some(awaited.offset.saturating_sub(1))
    }

    /// A delivery has arrived. With a filter, `is_filtered`, gaps say nothing about what the stream still has.
    pub(crate) fn arrived(&self, offset: u64, is_filtered: bool) -> ArrivedAt {
        let mut state = self.state();
        let mut removed = 0;
        if let Some(Awaited { offset: awaited, .. }) = state.awaited.take()
            && offset > awaited
        {
            // What was open below the first offset is gone: the broker can never deliver it again.
            let left = state.open.split_off(&offset);
            let gone = std::mem::replace(&mut state.open, left).len() as u64;
            let never_seen = offset.saturating_sub(state.end.unwrap_or(awaited));
            removed = if is_filtered { 0 } else { gone + never_seen };
        }
        let is_new = state.end.is_none_or(|end| offset >= end);
        if is_new {
            state.open.insert(offset);
            state.end = Some(offset + 1);
        }
        ArrivedAt { is_done: !state.open.contains(&offset), removed }
    }

    /// An offset is done: its message is handled, or a copy of it is confirmed.
    pub(crate) fn done(&self, offset: u64) {
        if self.state().open.remove(&offset) {
            self.done.notify_one();
            self.turn.notify_waiters();
        }
    }

    /// The store keeps `next` now.
    pub(crate) fn kept(&self, next: u64) {
        let mut state = self.state();
        state.kept = state.kept.max(Some(next));
        drop(state);
        self.kept.notify_one();
    }

    /// The offset to keep, if it is not kept yet.
    pub(crate) fn to_keep(&self) -> Option<u64> {
        let state = self.state();
        state.next().filter(|next| state.kept.is_none_or(|kept| kept < *next))
    }

    /// How many offsets are done and not kept.
    pub(crate) fn unkept(&self) -> u64 {
        let state = self.state();
        match (state.next(), state.kept) {
            (Some(next), Some(kept)) => next.saturating_sub(kept),
            // Nothing was ever kept: the first keep is due at once, because it pins where the reader began.
            (Some(_), None) => u64::MAX,
            (None, _) => 0,
        }
    }

    pub(crate) fn offsets(&self) -> Offsets {
        let state = self.state();
        Offsets { next: state.next(), end: state.end, kept: state.kept }
    }

    /// Waits until offsets are done that were not before. Cancellation safe.
    pub(crate) async fn wait_done(&self) {
        self.done.notified().await;
    }

    /// Waits until an offset was kept. Cancellation safe.
    pub(crate) async fn wait_kept(&self) {
        self.kept.notified().await;
    }

    /// Waits until all offsets below `offset` are done. Cancellation safe.
    async fn wait_turn(&self, offset: u64) {
        loop {
            let turn = self.turn.notified();
            if self.state().next().is_none_or(|next| next >= offset) {
                return;
            }
            turn.await;
        }
    }
}

/// Where a message is in its stream, and which reader it was delivered to.
///
/// `fluffle_outbox::postgres::offsets::keep` and its SQLite twin take it, to keep the offset in the application's own
/// transaction.
#[derive(Clone, Debug)]
pub struct StreamPosition {
    pub(crate) names: Arc<ReaderNames>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) offset: u64,
    pub(crate) is_item: bool,
}

/// The names under which a reader's offset is kept.
#[derive(Debug)]
pub(crate) struct ReaderNames {
    pub(crate) stream: Arc<str>,
    pub(crate) reader: String,
}

impl StreamPosition {
    /// The stream.
    pub fn stream(&self) -> &str {
        &self.names.stream
    }

    /// The name of the reader.
    pub fn reader(&self) -> &str {
        &self.names.reader
    }

    /// The offset of the message, or of the batch that it is in.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the message is one of a batch. Its offset is that of the whole batch, which is not done when this one
    /// message is.
    pub fn is_of_a_batch(&self) -> bool {
        self.is_item
    }

    /// Waits until the reader is done with all lower offsets. Only then may this one be kept as done, because what is
    /// kept says that everything up to it is. With [`concurrency(1)`](crate::Consume::concurrency) and one instance the
    /// wait is short.
    ///
    /// # Cancellation
    /// Safe: nothing changes.
    pub async fn wait_for_turn(&self) {
        self.progress.wait_turn(self.offset).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: ArrivedAt = ArrivedAt { is_done: true, removed: 0 };

    fn new_after(removed: u64) -> ArrivedAt {
        ArrivedAt { is_done: false, removed }
    }

    fn take(progress: &Progress, offset: u64) {
        assert_eq!(progress.arrived(offset, false), new_after(0), "{offset}");
    }

    fn begun_at(offset: u64) -> Progress {
        let progress = Progress::default();
        progress.loaded(Some(offset));
        progress.resume(None);
        progress
    }

    #[test]
    fn what_is_kept_is_below_the_first_that_is_not_done() {
        let progress = Progress::default();
        progress.loaded(None);
        assert_eq!((progress.resume(None), progress.to_keep()), (None, None));
        (10..15).for_each(|offset| take(&progress, offset));
        assert_eq!(progress.to_keep(), Some(10), "pins where the reader began");
        progress.done(11);
        progress.done(12);
        assert_eq!(progress.to_keep(), Some(10));
        progress.done(10);
        assert_eq!(progress.to_keep(), Some(13));
        progress.kept(13);
        assert_eq!((progress.to_keep(), progress.unkept()), (None, 0));
        progress.done(14);
        assert_eq!(progress.to_keep(), None);
        progress.done(13);
        assert_eq!((progress.to_keep(), progress.unkept()), (Some(15), 2));
    }

    #[test]
    fn after_a_lost_channel_only_what_is_not_done_is_handled_again() {
        let progress = begun_at(0);
        (0..6).for_each(|offset| take(&progress, offset));
        [0, 1, 3, 5].into_iter().for_each(|offset| progress.done(offset));
        assert_eq!(progress.resume(None), Some(Resume { from: 2, was_read: true }));
        take(&progress, 2);
        assert_eq!(progress.arrived(3, false), DONE);
        take(&progress, 4);
        assert_eq!(progress.arrived(5, false), DONE);
        take(&progress, 6);
        // The handler that had 2 on the lost channel ends now.
        progress.done(2);
        progress.done(4);
        assert_eq!(progress.to_keep(), Some(6));
    }

    #[test]
    fn a_reader_goes_on_behind_the_last_one_that_is_done_which_proves_that_the_stream_is_the_same() {
        let progress = Progress::default();
        progress.loaded(Some(8));
        assert_eq!(progress.resume(None), Some(Resume { from: 7, was_read: true }));
        assert_eq!((progress.overdue(Duration::ZERO), progress.overdue(Duration::ZERO)), (Some(7), None));
        assert_eq!(progress.arrived(7, false), DONE);
        take(&progress, 9);
        assert_eq!(progress.to_keep(), Some(9), "a gap behind a proof is none of retention");
        let empty = begun_at(0);
        assert_eq!(empty.resume(None), Some(Resume { from: 0, was_read: false }));
        assert_eq!(empty.overdue(Duration::ZERO), None, "the stream may be empty");
    }

    #[test]
    fn what_retention_has_removed_is_counted_and_holds_nothing_up() {
        let progress = begun_at(8);
        assert_eq!(progress.arrived(20, false), new_after(12));
        assert_eq!(progress.to_keep(), Some(20));

        let progress = begun_at(0);
        (0..4).for_each(|offset| take(&progress, offset));
        progress.done(1);
        progress.resume(None);
        assert_eq!(progress.arrived(3, false), new_after(2));
        progress.done(3);
        assert_eq!(progress.to_keep(), Some(4), "0 and 2 can never come again");
        assert_eq!(progress.resume(None), Some(Resume { from: 3, was_read: true }));

        let progress = begun_at(8);
        assert_eq!(progress.arrived(20, true), new_after(0), "nobody knows what a filter left out");
        let progress = Progress::default();
        progress.resume(Some(5));
        assert_eq!(progress.arrived(9, false), new_after(4));
    }

    #[tokio::test]
    async fn a_position_waits_for_its_turn() {
        let progress = Arc::new(begun_at(0));
        (0..3).for_each(|offset| take(&progress, offset));
        let waiting = tokio::spawn({
            let progress = Arc::clone(&progress);
            async move { progress.wait_turn(2).await }
        });
        progress.done(0);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        progress.done(1);
        waiting.await.unwrap();
    }
}
