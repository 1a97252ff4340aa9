//! An envelope: a delivery whose body is a batch. Its items are handed to handlers one by one, each has a result of its own,
//! and when the last one has, the envelope has its outcome.

use std::{
    ops::RangeBounds,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fluffle_wire::{DecodeError, RawItems};
use futures_util::task::AtomicWaker;

use crate::{
    base::failure::Failure,
    consume::{
        attempt::crash::Crash,
        decide::verdict::Verdict,
        message::received::{Received, Settled},
        queue::{
            by_key::KeyLock,
            handler_queue::{HandlerQueue, Outcome, Ticket},
        },
    },
};

/// What an envelope holds, once it has been opened.
#[derive(Debug)]
pub(crate) struct Contents {
    /// From the first item on.
    pub(crate) items: RawItems,
    /// The content type of one item by itself.
    pub(crate) single: Box<str>,
    /// Effectively once: which of them have been handled before. Empty: none.
    pub(crate) known: OnceLock<Vec<bool>>,
    /// What became of those that were not handled, by item.
    pub(crate) not_acked: OnceLock<Vec<(usize, Settled)>>,
    /// Handed over at once: those that turned out to be unreadable.
    unreadable: Mutex<Vec<usize>>,
    /// The items with handlers, if they go to them one by one.
    pub(crate) apart: OnceLock<Weak<Envelope>>,
}

impl Contents {
    pub(crate) fn new(items: RawItems, single: &str) -> Self {
        let (known, not_acked, unreadable) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Self { items, single: single.into(), known, not_acked, unreadable, apart: OnceLock::new() }
    }

    pub(crate) fn is_known(&self, index: usize) -> bool {
        self.known.get().is_some_and(|known| known.get(index).copied().unwrap_or(false))
    }

    /// The items in this range that have not been handled before.
    pub(crate) fn new_items(&self, range: impl RangeBounds<usize>) -> impl Iterator<Item = usize> {
        (0..self.items.len()).filter(move |index| range.contains(index) && !self.is_known(*index))
    }

    pub(crate) fn note_unreadable(&self, index: usize) {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(index);
    }

    /// The items that a handler found unreadable, as `decode` has it, and what a damaged frame makes so.
    pub(crate) fn unreadable(&self, decode: impl Fn(&Bytes) -> Option<DecodeError>) -> Vec<(usize, Arc<Outcome>)> {
        let noted = std::mem::take(&mut *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner));
        let why = |(index, raw): (usize, Result<Bytes, DecodeError>)| match raw {
            Ok(raw) if noted.contains(&index) => decode(&raw),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let items = self.items.clone().enumerate();
        items.filter_map(|item| Some((item.0, Arc::new(Outcome::Undecodable(why(item)?))))).collect()
    }

    /// The items of `verdicts`, which are in order, each as a message of its own. What a damaged frame makes unreadable is one.
    pub(crate) fn by_themselves<'a>(
        &'a self,
        received: &'a Received,
        verdicts: Vec<(usize, Verdict)>,
    ) -> impl Iterator<Item = (usize, Received, Verdict)> + 'a {
        let mut items = self.items.clone();
        verdicts.into_iter().filter_map(move |(index, verdict)| {
            let item = match items.nth(index.checked_sub(items.index())?)? {
                Ok(raw) => received.item(index, raw, Some(&self.single)),
                Err(_) => received.item(index, items.rest(), None),
            };
            Some((index, item, verdict))
        })
    }

    /// What became of item `index` when its envelope was settled as `envelope`.
    pub(crate) fn settled(&self, index: usize, envelope: Settled) -> Settled {
        let others = self.not_acked.get().map(Vec::as_slice).unwrap_or_default();
        let own = others.binary_search_by_key(&index, |(index, _)| *index).ok().and_then(|place| others.get(place));
        match (envelope, own) {
            (Settled::Acked, Some((_, settled))) => *settled,
            _ => envelope,
        }
    }
}

/// What came of an envelope's items.
#[derive(Debug, Default)]
pub(crate) struct ItemOutcomes {
    /// Items before this one have results; those from it on were not begun, for their channel is gone.
    pub(crate) until: usize,
    /// Those that were not handled, by item, and why; those not begun among them, where order is kept by key.
    pub(crate) failed: Vec<(usize, Arc<Outcome>)>,
}

impl ItemOutcomes {
    /// Whether each of `items` was begun.
    pub(crate) fn is_complete(&self, items: usize) -> bool {
        self.until >= items && !self.failed.iter().any(|(_, why)| matches!(**why, Outcome::NotStarted))
    }

    /// The items that were handled.
    pub(crate) fn handled(&self, contents: &Contents) -> impl Iterator<Item = usize> {
        let is_handled = |index: &usize| self.failed.binary_search_by_key(index, |(failed, _)| *failed).is_err();
        contents.new_items(..self.until).filter(is_handled)
    }
}

/// The items of one envelope that handlers have or have had.
pub(crate) struct Envelope {
    pub(crate) received: Arc<Received>,
    /// The item whose handler runs at this moment, plus 1. Who takes it out decides its result.
    in_hand: AtomicUsize,
    results: Mutex<Results>,
}

struct Results {
    ticket: Option<Ticket>,
    /// Items without a result.
    open: usize,
    outcomes: ItemOutcomes,
    /// Begun, and to be answered later.
    begun: Vec<Arc<Begun>>,
    /// What was in hand when last looked at, and since when.
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
    /// Takes the right to decide its result; whoever comes second is too late.
    fn claim(&self) -> bool {
        !self.has_result.swap(true, Ordering::AcqRel)
    }
}

impl Envelope {
    /// An item's handler is called.
    pub(crate) fn begin(&self, index: usize) {
        self.in_hand.store(index + 1, Ordering::Release);
    }

    /// The handler is back from the call. False when its item has been given up meanwhile.
    pub(crate) fn end(&self) -> bool {
        self.in_hand.swap(0, Ordering::AcqRel) != 0
    }

    /// The item in hand will be answered later.
    pub(crate) fn later(self: &Arc<Self>, index: usize, handler_queue: &Arc<HandlerQueue>) -> ItemTicket {
        let in_time = self.end();
        self.ticket(index, in_time, handler_queue)
    }

    fn ticket(self: &Arc<Self>, index: usize, in_time: bool, handler_queue: &Arc<HandlerQueue>) -> ItemTicket {
        let (has_result, waker) = (AtomicBool::new(!in_time), AtomicWaker::new());
        let begun = Arc::new(Begun { index, at: Instant::now(), has_result, waker });
        let mut results = self.results();
        // Amortized: what has its result is forgotten when there are twice as many.
        if results.begun.len() == results.begun.capacity() {
            results.begun.retain(|one| !one.has_result.load(Ordering::Acquire));
        }
        results.begun.push(Arc::clone(&begun));
        ItemTicket { envelope: Arc::clone(self), begun, handler_queue: Arc::clone(handler_queue), hold: None }
    }

    /// So many more items have been handled, or need not be.
    pub(crate) fn handled(&self, count: usize) {
        self.close(count, None);
    }

    pub(crate) fn failed(&self, index: usize, why: Outcome) {
        self.close(1, Some((index, Arc::new(why))));
    }

    /// The handler panicked: the item it had in hand, if it had one, is charged.
    fn crashed(&self) {
        if let Some(index) = self.in_hand.swap(0, Ordering::AcqRel).checked_sub(1) {
            self.failed(index, Outcome::Crashed(Crash::of_the_actor()));
        }
    }

    /// Fails items that a handler has had for longer than `limit`.
    pub(crate) fn expire(&self, limit: Duration) {
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
            self.failed(index, Outcome::Failed(Failure::retry(format!("the handler did not answer within {limit:?}"))));
        }
    }

    /// The items from `until` on are not begun: their channel is gone, and they will come again.
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

/// The duty to answer for one item whose handler answers later. Dropped, it answers for itself: that handler is gone.
pub(crate) struct ItemTicket {
    envelope: Arc<Envelope>,
    begun: Arc<Begun>,
    handler_queue: Arc<HandlerQueue>,
    /// Its key, where order is kept by key.
    hold: Option<KeyLock>,
}

impl ItemTicket {
    /// Others of its key may be handed out, for it has been given up.
    pub(crate) fn free_key(&mut self) {
        self.hold = None;
    }

    pub(crate) fn received(&self) -> &Arc<Received> {
        &self.envelope.received
    }

    /// Whether it has taken too long; if not, wakes the task when it has.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        self.begun.waker.register(cx.waker());
        self.begun.has_result.load(Ordering::Acquire)
    }

    pub(crate) fn answer(self, outcome: Outcome) {
        let handled = matches!(outcome, Outcome::Handled(_));
        match (self.begun.claim(), handled) {
            (true, true) => self.envelope.handled(1),
            (true, false) => self.envelope.failed(self.begun.index, outcome),
            (false, _) => self.handler_queue.late(&self.envelope.received, self.begun.index, handled),
        }
    }
}

impl Drop for ItemTicket {
    fn drop(&mut self) {
        if self.begun.claim() {
            self.envelope.failed(self.begun.index, Outcome::Crashed(Crash::of_the_actor()));
        }
    }
}

/// An item on its way to a handler of its own, where order is kept by key. Dropped before that, it was not begun.
pub(crate) struct Item {
    pub(crate) index: usize,
    pub(crate) raw: Bytes,
    pub(crate) hold: Option<KeyLock>,
    envelope: Option<Arc<Envelope>>,
}

impl Item {
    pub(crate) fn new(envelope: &Arc<Envelope>, index: usize, raw: Bytes) -> Self {
        Self { index, raw, hold: None, envelope: Some(Arc::clone(envelope)) }
    }

    /// A handler takes it.
    pub(crate) fn begin(mut self, handler_queue: &Arc<HandlerQueue>) -> Option<ItemTicket> {
        let mut ticket = self.envelope.take()?.ticket(self.index, true, handler_queue);
        ticket.hold = self.hold.take();
        Some(ticket)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if let Some(envelope) = self.envelope.take() {
            envelope.failed(self.index, Outcome::NotStarted);
        }
    }
}

/// An envelope on its way through its items. One handler has it at a time; whoever follows goes on where the last one
/// stopped.
pub(crate) struct Opened {
    pub(crate) envelope: Arc<Envelope>,
    items: RawItems,
    /// Items with a result that the envelope has not been told of.
    untold: usize,
}

impl Opened {
    /// Its items have been laid out in `received`.
    pub(crate) fn new(received: &Arc<Received>, contents: &Contents, ticket: Ticket) -> Self {
        let items = contents.items.clone();
        let outcomes = ItemOutcomes { until: items.len(), ..ItemOutcomes::default() };
        let results = Results {
            ticket: Some(ticket),
            open: items.len(),
            outcomes,
            begun: Vec::new(),
            watched: (0, Instant::now()),
        };
        let envelope = Arc::new(Envelope {
            received: Arc::clone(received),
            in_hand: AtomicUsize::new(0),
            results: Mutex::new(results),
        });
        let _ = contents.apart.set(Arc::downgrade(&envelope));
        if items.is_empty() {
            envelope.handled(0);
        }
        Self { envelope, items, untold: 0 }
    }

    /// The next item: its number, and its bytes. One that cannot be read is a failure of its own.
    pub(crate) fn next(&mut self) -> Option<(usize, Bytes)> {
        loop {
            let index = self.items.index();
            match self.items.next()? {
                Ok(_) if self.is_known(index) => self.untold += 1,
                Ok(raw) => return Some((index, raw)),
                Err(error) => self.envelope.failed(index, Outcome::Undecodable(error)),
            }
        }
    }

    fn is_known(&self, index: usize) -> bool {
        self.envelope.received.contents.get().is_some_and(|contents| contents.is_known(index))
    }

    /// One more is handled.
    pub(crate) fn handled(&mut self) {
        self.untold += 1;
    }

    /// The handler that had it is gone.
    pub(crate) fn survive(&mut self) {
        self.envelope.crashed();
    }
}

/// At the end of its items, or when they are nobody's to handle any more.
impl Drop for Opened {
    fn drop(&mut self) {
        let left = self.items.len() - self.items.index();
        match left {
            0 => self.envelope.handled(self.untold),
            left => self.envelope.abandon(self.items.index(), self.untold + left),
        }
    }
}
