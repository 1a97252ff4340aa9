//! The items of a batch that go to handlers one by one. Each item has a result of its own. When every item has one, the
//! batch has its outcome.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fluffle_wire::RawItems;
use futures_util::task::AtomicWaker;
use tokio::sync::mpsc::WeakUnboundedSender;

use crate::consume::attempt::{
    attempt::Attempt,
    contents::{Contents, HandedOut},
    crash::Crash,
    outcome::{ItemOutcomes, Outcome},
    permits::KeyLock,
    ticket::{Completion, Ticket},
};

/// The items of one batch, and their results so far.
pub(crate) struct Items {
    pub(crate) attempt: Arc<Attempt>,
    /// The index of the item whose handler runs at this moment, plus 1; 0 if there is none. The code that sets it to 0
    /// decides the item's result.
    in_hand: AtomicUsize,
    results: Mutex<Results>,
    /// Where a late answer goes. Weak, so that only tickets count as unanswered.
    completions: WeakUnboundedSender<Completion>,
}

struct Results {
    ticket: Option<Ticket>,
    /// How many items have no result.
    open: usize,
    outcomes: ItemOutcomes,
    /// Items that were begun and will be answered later.
    begun: Vec<Arc<Begun>>,
    /// The value of `in_hand` at the last check of time limits, and since when it has had that value.
    watched: (usize, Instant),
}

/// An item whose handler answers later.
struct Begun {
    index: usize,
    at: Instant,
    has_result: AtomicBool,
    waker: AtomicWaker,
}

impl Begun {
    /// Claims the right to decide the item's result. False if it was claimed before.
    fn claim(&self) -> bool {
        !self.has_result.swap(true, Ordering::AcqRel)
    }
}

impl Items {
    /// The handler of item `index` is called now.
    pub(crate) fn begin(&self, index: usize) {
        self.in_hand.store(index + 1, Ordering::Release);
    }

    /// The handler has returned from the call. False if the item was given up meanwhile.
    pub(crate) fn end(&self) -> bool {
        self.in_hand.swap(0, Ordering::AcqRel) != 0
    }

    /// The item in hand will be answered later.
    pub(crate) fn later(self: &Arc<Self>, index: usize) -> ItemTicket {
        let in_time = self.end();
        self.ticket(index, in_time, None)
    }

    fn ticket(self: &Arc<Self>, index: usize, in_time: bool, key: Option<KeyLock>) -> ItemTicket {
        let (has_result, waker) = (AtomicBool::new(!in_time), AtomicWaker::new());
        let begun = Arc::new(Begun { index, at: Instant::now(), has_result, waker });
        let mut results = self.results();
        // Items with a result are forgotten whenever the list would grow, so the cost is amortized.
        if results.begun.len() == results.begun.capacity() {
            results.begun.retain(|one| !one.has_result.load(Ordering::Acquire));
        }
        results.begun.push(Arc::clone(&begun));
        ItemTicket { items: Arc::clone(self), begun, key }
    }

    /// Counts `count` more items that were handled, or need not be.
    pub(crate) fn handled(&self, count: usize) {
        self.close(count, None);
    }

    pub(crate) fn failed(&self, index: usize, why: Outcome) {
        self.close(1, Some((index, Arc::new(why))));
    }

    /// Reports the late answer to an item that was given up.
    pub(crate) fn late(&self, index: usize, handled: bool) {
        let outcome = Outcome::LateItem(index, handled);
        if let Some(completions) = self.completions.upgrade() {
            // Fails if the service has stopped; then nobody counts.
            let _ = completions.send(Completion { attempt: Arc::clone(&self.attempt), outcome });
        }
    }

    /// The handler panicked. If it had an item in hand, that item fails, and this returns true.
    fn crashed(&self) -> bool {
        let in_hand = self.in_hand.swap(0, Ordering::AcqRel).checked_sub(1);
        if let Some(index) = in_hand {
            self.failed(index, Outcome::Crashed(Crash::of_the_actor()));
        }
        in_hand.is_some()
    }

    /// The items from `until` on are not begun, because their channel is lost. The broker delivers them again.
    fn abandon(&self, until: usize, count: usize) {
        self.results().outcomes.until = until;
        self.close(count, None);
    }

    fn close(&self, count: usize, failed: Option<(usize, Arc<Outcome>)>) {
        let mut results = self.results();
        results.outcomes.failed.extend(failed);
        results.open = results.open.saturating_sub(count);
        if results.open > 0 {
            return;
        }
        let Some(ticket) = results.ticket.take() else { return };
        let mut outcomes = std::mem::take(&mut results.outcomes);
        drop(results);
        outcomes.failed.sort_unstable_by_key(|(index, _)| *index);
        ticket.answer(Outcome::Items(outcomes));
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandedOut for Items {
    fn expire(&self, limit: Duration) {
        let now = Instant::now();
        let mut given_up = Vec::new();
        let mut results = self.results();
        let in_hand = self.in_hand.load(Ordering::Acquire);
        if results.watched.0 != in_hand {
            results.watched = (in_hand, now);
        } else if in_hand > 0 && now.duration_since(results.watched.1) > limit {
            let taken = self.in_hand.compare_exchange(in_hand, 0, Ordering::AcqRel, Ordering::Acquire);
            given_up.extend(taken.ok().map(|item| item - 1));
        }
        for begun in &results.begun {
            if now.duration_since(begun.at) > limit && begun.claim() {
                begun.waker.wake();
                given_up.push(begun.index);
            }
        }
        drop(results);
        for index in given_up {
            self.failed(index, Outcome::too_late(limit));
        }
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("open", &self.results().open).finish_non_exhaustive()
    }
}

/// The duty to answer for one item whose handler answers later. Dropping it answers "crashed", because then its handler
/// is gone.
pub(crate) struct ItemTicket {
    items: Arc<Items>,
    begun: Arc<Begun>,
    /// The item's key, where order is kept by key.
    key: Option<KeyLock>,
}

impl ItemTicket {
    /// The item was given up, so the next message of its key may be handed out.
    pub(crate) fn free_key(&mut self) {
        self.key = None;
    }

    pub(crate) fn attempt(&self) -> &Arc<Attempt> {
        &self.items.attempt
    }

    pub(crate) fn index(&self) -> usize {
        self.begun.index
    }

    /// Whether the item was given up. If not, the task is woken when it is.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        self.begun.waker.register(cx.waker());
        self.begun.has_result.load(Ordering::Acquire)
    }

    pub(crate) fn answer(self, outcome: Outcome) {
        let handled = matches!(outcome, Outcome::Handled(_));
        match (self.begun.claim(), handled) {
            (true, true) => self.items.handled(1),
            (true, false) => self.items.failed(self.begun.index, outcome),
            (false, _) => self.items.late(self.begun.index, handled),
        }
    }
}

impl Drop for ItemTicket {
    fn drop(&mut self) {
        if self.begun.claim() {
            self.items.failed(self.begun.index, Outcome::Crashed(Crash::of_the_actor()));
        }
    }
}

/// An item on its way to a handler, if order is kept by key. If it is dropped before a handler takes it, its outcome is
/// [`NotStarted`](Outcome::NotStarted).
pub(crate) struct Item {
    pub(crate) index: usize,
    pub(crate) raw: Bytes,
    pub(crate) key: Option<KeyLock>,
    items: Option<Arc<Items>>,
}

impl Item {
    pub(crate) fn new(items: &Arc<Items>, index: usize, raw: Bytes) -> Self {
        Self { index, raw, key: None, items: Some(Arc::clone(items)) }
    }

    /// A handler takes the item. Never `None`, because only this method and `drop` take `items`, and this one consumes
    /// the item.
    pub(crate) fn begin(mut self) -> Option<ItemTicket> {
        let key = self.key.take();
        Some(self.items.take()?.ticket(self.index, true, key))
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if let Some(items) = self.items.take() {
            items.failed(self.index, Outcome::NotStarted);
        }
    }
}

/// A batch whose items are being handed out. One handler instance has it at a time. If that crashes, the next one goes
/// on where it stopped.
pub(crate) struct Opened {
    pub(crate) items: Arc<Items>,
    left: RawItems,
    /// How many items were handled, or need not be, without being reported to `items` yet.
    untold: usize,
}

impl Opened {
    /// Starts with the first of the items of `contents`, which belong to `attempt`.
    pub(crate) fn new(attempt: &Arc<Attempt>, contents: &Contents, ticket: Ticket) -> Self {
        let left = contents.items.clone();
        let completions = ticket.completions().downgrade();
        let results = Results {
            ticket: Some(ticket),
            open: left.len(),
            outcomes: ItemOutcomes::all_handled(left.len()),
            begun: Vec::new(),
            watched: (0, Instant::now()),
        };
        let items = Arc::new(Items {
            attempt: Arc::clone(attempt),
            in_hand: AtomicUsize::new(0),
            results: Mutex::new(results),
            completions,
        });
        let handed_out: Weak<Items> = Arc::downgrade(&items);
        let _ = contents.handed_out.set(handed_out);
        if left.is_empty() {
            items.handled(0);
        }
        Self { items, left, untold: 0 }
    }

    /// The index and the bytes of the next item that was not handled before. Items that cannot be read fail here.
    pub(crate) fn next(&mut self) -> Option<(usize, Bytes)> {
        loop {
            let index = self.left.index();
            match self.left.next()? {
                Ok(_) if self.is_known(index) => self.untold += 1,
                Ok(raw) => return Some((index, raw)),
                Err(error) => self.items.failed(index, Outcome::Undecodable(error)),
            }
        }
    }

    fn is_known(&self, index: usize) -> bool {
        self.items.attempt.contents().is_some_and(|contents| contents.is_known(index))
    }

    /// One more item is handled.
    pub(crate) fn handled(&mut self) {
        self.untold += 1;
    }

    /// The handler that had the batch has ended: the item in hand fails, if there is one, and the batch goes on.
    /// Returns whether there is one.
    pub(crate) fn survive(&mut self) -> bool {
        self.items.crashed()
    }
}

/// Reports to `items` when all items are handed out, or when no handler may go on with the rest.
impl Drop for Opened {
    fn drop(&mut self) {
        let left = self.left.len() - self.left.index();
        match left {
            0 => self.items.handled(self.untold),
            left => self.items.abandon(self.left.index(), self.untold + left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use fluffle_wire::Wire;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::{base::failure::Failure, consume::attempt::attempt::tests::attempt};

    /// The sender lives as long as the queue's own would.
    fn opened(items: &[&str]) -> (Opened, UnboundedReceiver<Completion>) {
        let wire = Wire::<String>::protobuf();
        let sent = wire.encode_batch(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>()).unwrap();
        let batch = Arc::new(attempt(1));
        batch.open(Contents::new(
            wire.decode_batch(&sent.incoming()).unwrap().raw_items(),
            fluffle_wire::headers::ItemTypes::default(),
            "",
        ));
        let (completions, answers) = unbounded_channel();
        let ticket = Ticket::new(Arc::clone(&batch), completions.clone());
        std::mem::forget(completions);
        (Opened::new(&batch, batch.contents().unwrap(), ticket), answers)
    }

    fn outcome(answers: &mut UnboundedReceiver<Completion>) -> Option<ItemOutcomes> {
        match answers.try_recv().ok()?.outcome {
            Outcome::Items(items) => Some(items),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_batch_is_answered_once_when_its_last_item_is() {
        let (mut opened, mut answers) = opened(&["a", "b", "c"]);
        let (first, _) = opened.next().unwrap();
        opened.items.begin(first);
        let later = opened.items.later(first);
        opened.next().unwrap();
        opened.handled();
        let (third, _) = opened.next().unwrap();
        opened.items.begin(third);
        assert!(opened.items.end());
        opened.items.failed(third, Outcome::Failed(Failure::reject("no")));
        drop(opened);
        assert!(outcome(&mut answers).is_none(), "the first item is not answered yet");
        later.answer(Outcome::Handled(None));
        let items = outcome(&mut answers).unwrap();
        assert!(items.is_complete(3));
        assert_eq!(items.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn items_nobody_began_leave_the_batch_incomplete() {
        let (mut opened, mut answers) = opened(&["a", "b"]);
        opened.next().unwrap();
        opened.handled();
        drop(opened);
        assert!(!outcome(&mut answers).unwrap().is_complete(2));
    }

    #[test]
    fn an_item_past_its_limit_fails_and_its_late_answer_is_only_reported() {
        let (mut opened, mut answers) = opened(&["a"]);
        let (index, _) = opened.next().unwrap();
        opened.items.begin(index);
        let late = opened.items.later(index);
        std::thread::sleep(Duration::from_millis(2));
        let items = Arc::clone(&opened.items);
        drop(opened);
        items.expire(Duration::from_millis(1));
        assert!(late.poll_given_up(&Context::from_waker(Waker::noop())));
        assert_eq!(outcome(&mut answers).unwrap().failed.len(), 1);
        late.answer(Outcome::Handled(None));
        assert!(matches!(answers.try_recv().unwrap().outcome, Outcome::LateItem(0, true)));
    }

    #[test]
    fn a_crash_charges_the_item_in_hand_and_no_other() {
        let (mut opened, mut answers) = opened(&["a", "b"]);
        let (index, _) = opened.next().unwrap();
        opened.items.begin(index);
        opened.survive();
        opened.next().unwrap();
        opened.handled();
        drop(opened);
        let items = outcome(&mut answers).unwrap();
        assert!(items.is_complete(2));
        assert!(matches!(&items.failed[..], [(0, why)] if matches!(**why, Outcome::Crashed(_))));
    }
}
