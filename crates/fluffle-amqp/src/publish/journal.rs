//! A publisher's journal: an accepted message is on the local disk before it goes out, and stays there until the broker
//! has it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle_store::{Journal, JournalStats, Place, Position, Reader, Record, StoreError, StoreErrorKind};
use fluffle_wire::headers::error_chain;
use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    base::{
        clock,
        events::PublishResult,
        published::{self, millis_of},
    },
    flow::budget::Budget,
    publish::{
        entry::{Entry, Times},
        error::PublishErrorKind,
        held::Held,
        message::Prepared,
        outcome::{InCustody, OutcomeSender, SendOutcome},
        stats::JournalStatus,
        tally::Tally,
    },
};

/// How long a message that the broker did not take waits for its next try: doubled each time, from the first to the
/// longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long the flush of a journal may take when its publisher closes.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// With so many messages waiting for another try, no new message is read. Those on the wire at that moment may still
/// add to them.
const MOST_AGAIN: usize = 1024;

/// The fewest waiting senders at which the ones that have gone are looked for.
const PRUNE_AT: usize = 4096;

/// Most bytes that a record without headers takes beside its body: exchange, routing key and properties of at most 255
/// bytes each, with their lengths.
const RECORD_OVERHEAD: u64 = 4 * 1024;

/// How long to wait after the disk has failed, before it is read again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

/// A journal, and the senders that wait for the messages in it. Every message is read from the journal before it goes
/// out, whether this process wrote it or an earlier one, so all of them leave in the order in which they were
/// journaled.
pub(crate) struct Ledger {
    journal: Journal,
    reader: tokio::sync::Mutex<Reader>,
    waiting: Arc<Mutex<WaitingSenders>>,
    pub(crate) tally: Arc<Tally>,
    /// The bytes of the messages that were read from the journal and are not settled.
    held: Arc<Budget>,
    /// Messages that the broker did not take and that no sender has taken back, in the order in which they are due for
    /// another try.
    again: Mutex<VecDeque<(Instant, Entry)>>,
    /// Told when `again` gets another message, by whichever thread dropped its [`Custody`].
    more_again: Notify,
    /// Messages that the broker did not take, and whose senders have not looked yet.
    in_custody: AtomicUsize,
    /// Records that cannot be read. They are left to the next process.
    stuck: AtomicUsize,
    /// The application has closed the journal: there is nothing to wait for.
    closed: AtomicBool,
}

/// The senders that wait for an outcome.
struct WaitingSenders {
    /// By message id. A sender is entered before its message can be read, so that no outcome comes too early. Of one
    /// id, the senders are in the order of the records.
    by_id: HashMap<Arc<str>, VecDeque<OutcomeSender>>,
    /// How many ids may be in `by_id` before the senders that have gone are looked for.
    prune_at: usize,
}

impl WaitingSenders {
    /// Removes the senders that have gone, if there are many ids: their messages may never have got into the journal.
    fn prune(&mut self) {
        if self.by_id.len() >= self.prune_at {
            self.by_id.retain(|_, of_this_id| {
                of_this_id.retain(|waiter| !waiter.unheard());
                !of_this_id.is_empty()
            });
            self.prune_at = PRUNE_AT.max(self.by_id.len() * 2);
        }
    }

    /// The sender that waits for the next record with this id.
    fn take(&mut self, id: &str) -> Option<OutcomeSender> {
        let of_this_id = self.by_id.get_mut(id)?;
        // A sender that has gone, for instance because the disk failed, is not the one that waits.
        let waiter = std::iter::from_fn(|| of_this_id.pop_front()).find(|waiter| !waiter.unheard());
        if of_this_id.is_empty() {
            self.by_id.remove(id);
        }
        waiter
    }
}

impl Ledger {
    /// `None` if another publisher has the journal.
    ///
    /// Up to `max_bytes` of the messages in the journal are in memory at a time. A single larger message is in memory
    /// alone.
    pub(crate) fn new(journal: Journal, max_bytes: u64) -> Option<Self> {
        let reader = tokio::sync::Mutex::new(journal.reader()?);
        let waiting = Arc::new(Mutex::new(WaitingSenders { by_id: HashMap::new(), prune_at: PRUNE_AT }));
        let tally = Arc::new(Tally::default());
        // Weak, because the senders that wait hold the journal.
        let (senders, books) = (Arc::downgrade(&waiting), Arc::downgrade(&tally));
        journal.on_lost(move |record| {
            let (Some(senders), Some(books)) = (senders.upgrade(), books.upgrade()) else { return };
            // Its sender hears from the journal itself.
            drop(lock(&senders).take(&record.id));
            let items = Prepared::from_bytes(record.bytes.clone()).map_or(1, |message| message.items as usize);
            books.events.settled(PublishResult::Failed, items, 0, Times::default());
            books.cross_off(items);
        });
        Some(Self {
            journal,
            reader,
            waiting,
            tally,
            held: Arc::new(Budget::new(max_bytes)),
            again: Mutex::default(),
            more_again: Notify::new(),
            in_custody: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Gives a message its place in the order. Its sender hears when the message is as safe as the journal's flush
    /// policy says. From then on the message is published, even when its sender no longer waits.
    ///
    /// Cancellation safe: dropped before it is ready, nothing is written.
    pub(crate) async fn accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        let record = record(&entry.message)?;
        let place = self.journal.reserve(record.size()).await.map_err(PublishErrorKind::Journal)?;
        self.tally.accept(entry.items());
        self.post(place, record, entry);
        Ok(())
    }

    /// Waits for room for a body of up to `bytes`, without headers. Cancellation safe.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Place, PublishErrorKind> {
        let size = RECORD_OVERHEAD.saturating_add(bytes as u64);
        self.journal.reserve(size).await.map_err(PublishErrorKind::Journal)
    }

    /// Waits for room for this message, headers included. Cancellation safe.
    pub(crate) async fn reserve_for(&self, message: &Prepared) -> Result<Place, PublishErrorKind> {
        self.journal.reserve(record(message)?.size()).await.map_err(PublishErrorKind::Journal)
    }

    /// Puts an accepted message into the place that was reserved for it.
    pub(crate) fn send(&self, place: Place, entry: Entry) {
        match record(&entry.message) {
            Ok(record) => self.post(place, record, entry),
            Err(kind) => self.unsent(entry.items(), entry.reply, kind),
        }
    }

    /// An accepted record is not in the journal, and will not be.
    fn unsent(&self, items: usize, reply: OutcomeSender, kind: PublishErrorKind) {
        self.tally.events.settled(PublishResult::Failed, items, 0, Times::default());
        reply.settle(SendOutcome::Unsent(kind));
        self.tally.cross_off(items);
    }

    fn post(&self, place: Place, record: Record, entry: Entry) {
        let items = entry.items();
        let Entry { message, reply, .. } = entry;
        let pending = reply.pending();
        // Posted under the lock, so that no record is read before its sender is entered, and so that the senders of one
        // id are in the order of the records.
        let mut waiting = self.waiting();
        waiting.prune();
        match place.post(record) {
            Ok(enqueued) => {
                waiting.by_id.entry(Arc::clone(&message.id)).or_default().push_back(reply);
                pending.posted(enqueued);
            }
            Err(error) => {
                drop(waiting);
                self.unsent(items, reply, PublishErrorKind::Journal(error.kind));
            }
        }
    }

    /// Waits for the next message to publish, and takes up to `limit`. Cancellation safe: every message that was read
    /// is in `into`.
    pub(crate) async fn take(&self, into: &mut Vec<Entry>, limit: usize) -> usize {
        let mut reader = self.reader.lock().await;
        let before = into.len();
        while into.len() == before {
            let full = self.again().len() >= MOST_AGAIN || !self.held.fits(1);
            tokio::select! {
                biased;
                entry = self.due() => into.push(entry),
                read = reader.next(), if !full => match read {
                    Ok(entry) => into.extend(self.entry(entry)),
                    Err(error) if error.kind() == StoreErrorKind::Closed => {
                        tracing::error!("the application closed a journal: its publisher sends nothing more");
                        self.closed.store(true, Ordering::Release);
                        std::future::pending().await
                    }
                    Err(error) if self.passes_over(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "journal cannot be read; it is read again in 1 s");
                        sleep(AFTER_A_FAILURE).await;
                    }
                },
            }
            while !full && into.len() - before < limit && self.held.fits(1) {
                match reader.next().now_or_never() {
                    Some(Ok(entry)) => into.extend(self.entry(entry)),
                    Some(Err(error)) if self.passes_over(&error) => {}
                    _ => break,
                }
            }
        }
        into.len() - before
    }

    /// Whether `error` is about one record only. That record stays in the journal for a person to look at, and reading
    /// goes on after it.
    fn passes_over(&self, error: &StoreError) -> bool {
        let one_record = error.kind() == StoreErrorKind::DamagedRecord;
        if one_record {
            self.stuck.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                error = error_chain(error),
                "a journaled message is damaged: it is not sent and stays in the journal; the next one is read"
            );
        }
        one_record
    }

    /// Waits for the next message that is due for another try. Cancellation safe: a message is taken only when it is
    /// returned.
    async fn due(&self) -> Entry {
        loop {
            let mut more = std::pin::pin!(self.more_again.notified());
            more.as_mut().enable();
            let first = self.again().front().map(|(due, _)| *due);
            let Some(due) = first else {
                more.await;
                continue;
            };
            tokio::select! {
                () = sleep_until(due) => {
                    if let Some((_, entry)) = self.again().pop_front() {
                        return entry;
                    }
                }
                // The added message may be due first.
                () = more => {}
            }
        }
    }

    /// The message with the sender that waits for it. `None` if the message cannot be read; it stays in the journal.
    fn entry(&self, fluffle_store::Entry { position, id, bytes }: fluffle_store::Entry) -> Option<Entry> {
        let message = match Prepared::from_bytes(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(
                    message_id = %id, %error,
                    "journaled message cannot be read: it is not sent and stays in the journal"
                );
                self.stuck.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        // If an earlier process wrote the message, no sender waits for it.
        if self.journal.is_left_over(&position) {
            // Accepted by an earlier process, which no longer counts it.
            self.tally.accept(message.items as usize);
        }
        let reply = self.waiting().take(&id).unwrap_or_else(|| OutcomeSender::to_nobody(&message));
        let held = Held::new(&self.held, message.body.len());
        Some(Entry::journaled(message, reply, position, held))
    }

    /// The broker has the message, or its senders have it back: it leaves the journal.
    pub(crate) fn settled(&self, position: Position) {
        self.journal.confirm(position);
    }

    /// The broker did not take the message, and no sender has taken it back. It stays in the journal, and is tried
    /// again.
    pub(crate) fn unheard(&self, mut entry: Entry) {
        let wait = (FIRST_WAIT * 2_u32.saturating_pow(entry.tries.into())).min(LONGEST_WAIT);
        let mut again = self.again();
        entry.tries = entry.tries.saturating_add(1);
        entry.held.get_or_insert_with(|| Held::new(&self.held, entry.message.body.len()));
        let due = Instant::now() + wait;
        let place = again.partition_point(|(other, _)| *other <= due);
        again.insert(place, (due, entry));
        self.more_again.notify_waiters();
    }

    /// Messages that are not settled. Messages that wait for another try, or for their senders to look, do not count. A
    /// confirm may be counted up to 50 ms after it has come.
    pub(crate) fn outstanding(&self) -> usize {
        let elsewhere = self.in_custody.load(Ordering::Relaxed) + self.again().len();
        self.left().saturating_sub(elsewhere)
    }

    /// Messages that are not settled, those that wait for another try included. Messages that wait for their senders to
    /// look do not count.
    pub(crate) fn waiting_to_leave(&self) -> usize {
        self.left().saturating_sub(self.in_custody.load(Ordering::Relaxed))
    }

    /// Messages that are not settled, those that wait for another try or for their senders to look included.
    pub(crate) fn left(&self) -> usize {
        if self.closed.load(Ordering::Acquire) {
            return 0;
        }
        let there = usize::try_from(self.journal.stats().unconfirmed).unwrap_or(usize::MAX);
        there.saturating_sub(self.stuck.load(Ordering::Relaxed))
    }

    /// The bytes of its messages that are in memory, and the most that may be.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.held.used(), self.held.limit())
    }

    pub(crate) fn status(&self) -> JournalStatus {
        let JournalStats { unconfirmed, bytes, .. } = self.journal.stats();
        let handed_back = self.in_custody.load(Ordering::Relaxed);
        let oldest = self.journal.oldest_id().and_then(|(id, found)| {
            let age = published::since(millis_of(&id)?).time;
            Some(age.saturating_sub(found.elapsed()))
        });
        JournalStatus { unconfirmed, bytes, oldest, waiting_again: self.again().len(), handed_back }
    }

    fn again(&self) -> MutexGuard<'_, VecDeque<(Instant, Entry)>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The publisher ends. Senders that wait are told so. The messages stay for the next process; the confirms so far
    /// are written to the disk.
    pub(crate) async fn close(&self, flushed_by: std::time::Instant) {
        self.forget_waiting();
        let begun = Instant::now();
        let limit = Instant::from_std(flushed_by).min(begun + FLUSH_LIMIT);
        match clock::timeout_at(limit, self.journal.flush()).await {
            Ok(Ok(())) => tracing::info!(
                left = self.journal.stats().unconfirmed, took = ?begun.elapsed(),
                "drain: the journal is flushed; the next process publishes what is left in it"
            ),
            Ok(Err(error)) => {
                tracing::warn!(
                    %error,
                    "drain: the journal could not be flushed; the next process may publish confirmed messages again"
                )
            }
            Err(_) => {
                tracing::warn!(
                    took = ?begun.elapsed(),
                    "drain: the journal was not flushed in time; the next process may publish confirmed messages again"
                )
            }
        }
    }

    /// Tells each sender that waits that the journal keeps its message.
    pub(crate) fn forget_waiting(&self) {
        self.waiting().by_id.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingSenders> {
        lock(&self.waiting)
    }
}

fn lock(senders: &Mutex<WaitingSenders>) -> MutexGuard<'_, WaitingSenders> {
    senders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(message: &Prepared) -> Result<Record, PublishErrorKind> {
    let bytes = message.to_bytes().map_err(|_| PublishErrorKind::Property("properties"))?;
    Ok(Record { id: message.id.to_string(), bytes })
}

/// A message that the broker did not take, on its way back to its senders. A sender that awaited only
/// [`Receipt::journaled`] never looks; then the message is the journal's again when its receipt is dropped.
///
/// [`Receipt::journaled`]: crate::Receipt::journaled
pub(crate) struct Custody {
    ledger: Arc<Ledger>,
    entry: Option<Entry>,
    outcome: SendOutcome,
    result: PublishResult,
    /// When it failed, if listeners want to hear it.
    decided: Option<std::time::Instant>,
}

impl Custody {
    pub(crate) fn new(ledger: &Arc<Ledger>, mut entry: Entry, outcome: SendOutcome, result: PublishResult) -> Self {
        // Not counted as held by the publisher, because the sender has the message in memory anyway.
        entry.held = None;
        ledger.in_custody.fetch_add(1, Ordering::Relaxed);
        let decided = ledger.tally.events.now();
        Self { ledger: Arc::clone(ledger), entry: Some(entry), outcome, result, decided }
    }
}

impl InCustody for Custody {
    fn items(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::items)
    }

    fn taken_back(mut self: Box<Self>) {
        let Some(entry) = self.entry.take() else { return };
        let Tally { events, .. } = &*self.ledger.tally;
        let (items, bytes) = (entry.items(), entry.message.body.len());
        events.settled_late(self.result, items, bytes, entry.times, self.decided);
        entry.position.into_iter().for_each(|position| self.ledger.settled(position));
        self.ledger.tally.cross_off(items);
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.ledger.in_custody.fetch_sub(1, Ordering::Relaxed);
        if let Some(entry) = self.entry.take() {
            tracing::error!(
                message_id = %entry.message.id, to = entry.message.target(), trace_id = entry.message.trace_id(),
                outcome = ?self.outcome,
                "journaled message failed, and no sender took it back: it stays in the journal and is tried again"
            );
            self.ledger.tally.events.kept(self.result, entry.items());
            self.ledger.unheard(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: usize = 1_000;

    fn entry(id: &str) -> Entry {
        let properties = lapin::BasicProperties::default().with_message_id(id.into());
        let message = Prepared::new(id, "", "q", properties, vec![0; BODY].into());
        let reply = OutcomeSender::to_nobody(&message);
        Entry::new(message, reply, true)
    }

    #[tokio::test]
    async fn of_what_is_in_the_journal_no_more_bytes_are_in_memory_than_the_publisher_may_hold() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
        let ledger = Ledger::new(journal.clone(), 4 * BODY as u64).unwrap();
        for number in 0..10 {
            ledger.accept(entry(&number.to_string())).await.unwrap();
        }
        journal.flush().await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < 4 {
            ledger.take(&mut taken, 64).await;
        }
        assert_eq!(taken.len(), 4);
        assert!(ledger.take(&mut taken, 64).now_or_never().is_none(), "the rest is on the disk");
        drop(taken.remove(0));
        ledger.take(&mut taken, 64).await;
        assert_eq!(taken.iter().map(|entry| &*entry.message.id).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    }
}
