//! A publisher's journal: what was accepted is on the local disk before it goes out, and stays there until the broker has it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle_store::{Journal, Place, Position, Reader, Record, StoreError, StoreErrorKind};
use fluffle_wire::headers::error_chain;
use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    base::clock,
    flow::budget::Budget,
    publish::{
        entry::Entry,
        error::PublishErrorKind,
        message::Prepared,
        outcome::{Address, Kept, Pending, Reply, SendOutcome},
    },
};

/// The waits before a message that the broker did not take is tried again, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long the disk may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// With so many waiting for that, nothing new is begun; what is on the wire then may add to them.
const MOST_AGAIN: usize = 1024;

/// The fewest who may be waiting before those who have gone are looked for.
const PRUNE_AT: usize = 4096;

/// What a record takes beside its body, when it has no headers: exchange, routing key and properties of at most 255 bytes
/// each, and what frames them.
const RECORD_OVERHEAD: u64 = 4 * 1024;

/// How long after the disk has failed it is asked again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

/// A journal and those who wait for what is in it. Everything goes out in the order it was journaled, whether it comes
/// from this process or an earlier one, for all of it is read from the journal.
pub(crate) struct Ledger {
    journal: Journal,
    reader: tokio::sync::Mutex<Reader>,
    /// By message id: who waits for the verdict. Entered before the message is, so that no verdict comes too early.
    waiting: Mutex<HashMap<Arc<str>, VecDeque<Reply>>>,
    /// The bytes of what was read from the journal and is not settled.
    held: Arc<Budget>,
    /// What the broker did not take, and nobody is there to have it back: tried again when it is due.
    again: Mutex<VecDeque<(Instant, Entry)>>,
    /// Told when there is more of it; from whichever thread dropped it.
    more_again: Notify,
    /// What the broker did not take, and its sender has not looked at yet.
    in_custody: AtomicUsize,
    /// What cannot be read: left to the next process.
    stuck: AtomicUsize,
    /// The application has closed it: there is nothing to wait for.
    closed: AtomicBool,
    /// How many may be waiting before those who have gone are looked for.
    prune_at: AtomicUsize,
}

impl Ledger {
    /// `None` when another publisher has the journal.
    ///
    /// Of what is read from it, up to `max_bytes` are in memory at a time, one larger message alone.
    pub(crate) fn new(journal: Journal, max_bytes: u64) -> Option<Self> {
        let reader = tokio::sync::Mutex::new(journal.reader()?);
        Some(Self {
            journal,
            reader,
            waiting: Mutex::default(),
            held: Arc::new(Budget::new(max_bytes)),
            again: Mutex::default(),
            more_again: Notify::new(),
            in_custody: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            prune_at: AtomicUsize::new(PRUNE_AT),
        })
    }

    /// Gives a message its place in the order; its sender hears when it is as safe as the journal's flush policy says. It is
    /// published then, whoever waits for it.
    ///
    /// Cancellation safe: dropped before it is ready, nothing is written.
    pub(crate) async fn accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        let record = record(&entry.message)?;
        let place = self.journal.reserve(record.size()).await.map_err(PublishErrorKind::Journal)?;
        self.post(place, record, entry);
        Ok(())
    }

    /// Waits for room for a body of up to `bytes`, without headers. Cancellation safe.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Place, PublishErrorKind> {
        let size = RECORD_OVERHEAD.saturating_add(bytes as u64);
        self.journal.reserve(size).await.map_err(PublishErrorKind::Journal)
    }

    /// Waits for room for this very message. Cancellation safe.
    pub(crate) async fn reserve_for(&self, message: &Prepared) -> Result<Place, PublishErrorKind> {
        self.journal.reserve(record(message)?.size()).await.map_err(PublishErrorKind::Journal)
    }

    /// Gives a message the place that was reserved for it.
    pub(crate) fn send(&self, place: Place, entry: Entry) {
        match record(&entry.message) {
            Ok(record) => self.post(place, record, entry),
            Err(kind) => entry.reply.settle(SendOutcome::Unsent(kind)),
        }
    }

    fn post(&self, place: Place, record: Record, entry: Entry) {
        self.prune();
        let Entry { message, reply, .. } = entry;
        let pending = reply.pending();
        // Posted under the lock: no verdict comes before its waiter, and of one id the waiters are in the order of the records.
        let mut waiting = self.waiting();
        match place.post(record) {
            Ok(enqueued) => {
                waiting.entry(Arc::clone(&message.id)).or_default().push_back(reply);
                pending.posted(enqueued);
            }
            Err(error) => {
                drop(waiting);
                reply.settle(SendOutcome::Unsent(PublishErrorKind::Journal(error.kind)));
            }
        }
    }

    /// Waits for what is to be published next, and takes up to `limit`. Cancellation safe: what was read is in `into`.
    pub(crate) async fn take(&self, into: &mut Vec<Entry>, limit: usize) -> usize {
        let mut reader = self.reader.lock().await;
        let before = into.len();
        while into.len() == before {
            // With so much to be tried again, or in memory, nothing new is begun.
            let full = self.again().len() >= MOST_AGAIN || !self.held.fits(1);
            tokio::select! {
                biased;
                entry = self.due() => into.push(entry),
                read = reader.next(), if !full => match read {
                    Ok(entry) => into.extend(self.entry(entry)),
                    Err(error) if error.kind() == StoreErrorKind::Closed => {
                        tracing::error!("the journal was closed under its publisher, which publishes no more");
                        self.closed.store(true, Ordering::Release);
                        std::future::pending().await
                    }
                    Err(error) if self.passes_over(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "the journal cannot be read: trying again");
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

    /// Whether it is about one record, that stays in the journal for a person to look at, while reading goes on after it.
    fn passes_over(&self, error: &StoreError) -> bool {
        let one = error.kind() == StoreErrorKind::DamagedRecord;
        if one {
            self.stuck.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                error = error_chain(error),
                "a journaled message is damaged: it is not sent and stays in the journal, which goes on with the next"
            );
        }
        one
    }

    /// What is to be tried again, when it is due. Cancellation safe: it is taken when it is given.
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
                // It may be due before the others.
                () = more => {}
            }
        }
    }

    /// The message and who waits for it; none for one that cannot be read, which stays where it is.
    fn entry(&self, fluffle_store::Entry { position, id, bytes }: fluffle_store::Entry) -> Option<Entry> {
        let message = match Prepared::from_bytes(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(message_id = %id, %error, "a journaled message cannot be read: it stays in the journal");
                self.stuck.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        // An earlier process's: nobody waits any more.
        let reply = self.waiter(&id).unwrap_or_else(|| nobody(&message));
        let held = Held::new(&self.held, message.body.len());
        Some(Entry::journaled(message, reply, position, held))
    }

    /// The broker has the message, or its sender has it back.
    pub(crate) fn settled(&self, position: Position) {
        self.journal.confirm(position);
    }

    /// The broker did not take it, and nobody is there to have it back. It stays in the journal, and is tried again.
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

    /// Messages that are still to be settled, those that wait to be tried again left out; a confirm may be counted up to 50 ms after it has come.
    pub(crate) fn outstanding(&self) -> usize {
        let elsewhere = self.in_custody.load(Ordering::Relaxed) + self.again().len();
        self.left().saturating_sub(elsewhere)
    }

    /// The same, with those that wait to be tried again: nobody has them but the journal.
    pub(crate) fn waiting_to_leave(&self) -> usize {
        self.left().saturating_sub(self.in_custody.load(Ordering::Relaxed))
    }

    /// The same, with those that wait to be tried again, or for their senders to look.
    pub(crate) fn left(&self) -> usize {
        if self.closed.load(Ordering::Acquire) {
            return 0;
        }
        let there = usize::try_from(self.journal.stats().unconfirmed).unwrap_or(usize::MAX);
        there.saturating_sub(self.stuck.load(Ordering::Relaxed))
    }

    /// Forgets who has gone, now and then: their messages may never have got into the journal.
    fn prune(&self) {
        let mut waiting = self.waiting();
        if waiting.len() >= self.prune_at.load(Ordering::Relaxed) {
            waiting.retain(|_, of_this_id| {
                of_this_id.retain(|waiter| !waiter.unheard());
                !of_this_id.is_empty()
            });
            self.prune_at.store(PRUNE_AT.max(waiting.len() * 2), Ordering::Relaxed);
        }
    }

    fn again(&self) -> MutexGuard<'_, VecDeque<(Instant, Entry)>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The publisher ends: who waits is told so, and what is here stays for the next process, confirms so far written.
    pub(crate) async fn close(&self, flushed_by: std::time::Instant) {
        self.forget_waiting();
        let begun = Instant::now();
        let limit = Instant::from_std(flushed_by).min(begun + FLUSH_LIMIT);
        match clock::timeout_at(limit, self.journal.flush()).await {
            Ok(Ok(())) => tracing::info!(
                left = self.journal.stats().unconfirmed, took = ?begun.elapsed(),
                "drain: the journal is flushed; what is left in it is the next process's"
            ),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the journal could not be flushed: the next process may publish again")
            }
            Err(_) => {
                tracing::warn!(took = ?begun.elapsed(), "the journal was not flushed in time: the next process may publish again")
            }
        }
    }

    /// Who waits is told that the journal keeps what he sent.
    pub(crate) fn forget_waiting(&self) {
        self.waiting().clear();
    }

    fn waiter(&self, id: &str) -> Option<Reply> {
        let mut waiting = self.waiting();
        let of_this_id = waiting.get_mut(id)?;
        // Who has gone, for instance because the disk failed, is not the one who waits.
        let waiter = std::iter::from_fn(|| of_this_id.pop_front()).find(|waiter| !waiter.unheard());
        if of_this_id.is_empty() {
            waiting.remove(id);
        }
        waiter
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(message: &Prepared) -> Result<Record, PublishErrorKind> {
    let bytes = message.to_bytes().map_err(|_| PublishErrorKind::Property("properties"))?;
    Ok(Record { id: message.id.to_string(), bytes })
}

/// A reply that nobody waits for.
pub(crate) fn nobody(message: &Prepared) -> Reply {
    let to = Address { exchange: Arc::clone(&message.exchange), routing_key: Arc::clone(&message.routing_key) };
    Pending::new(Arc::clone(&message.id), to, Instant::now(), Kept::InJournal).1
}

/// The bytes of one message that was read from the journal, until it is settled.
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        let held = Self { budget: Arc::clone(budget), bytes: bytes as u64 };
        held.budget.take(held.bytes);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever reads looks again by itself: at each confirm, and with the publisher's clock.
        let _somebody_waits = self.budget.give_back(self.bytes);
    }
}

/// A message that the broker did not take, on its way back to its sender. Who awaited no more than [`Receipt::journaled`]
/// never looks: then it is the journal's again.
///
/// [`Receipt::journaled`]: crate::Receipt::journaled
pub(crate) struct Custody {
    ledger: Arc<Ledger>,
    entry: Option<Entry>,
    outcome: SendOutcome,
}

impl Custody {
    pub(crate) fn new(ledger: &Arc<Ledger>, mut entry: Entry, outcome: SendOutcome) -> Self {
        // In its sender's hands, who has it anyway.
        entry.held = None;
        ledger.in_custody.fetch_add(1, Ordering::Relaxed);
        Self { ledger: Arc::clone(ledger), entry: Some(entry), outcome }
    }

    /// How many messages that is.
    pub(crate) fn items(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::items)
    }

    /// Its sender has it back; all of them, if it is an envelope.
    pub(crate) fn taken_back(mut self) {
        let position = self.entry.take().and_then(|entry| entry.position);
        position.into_iter().for_each(|position| self.ledger.settled(position));
    }
}

impl std::fmt::Debug for Custody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Custody").field(&self.outcome).finish()
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.ledger.in_custody.fetch_sub(1, Ordering::Relaxed);
        if let Some(entry) = self.entry.take() {
            tracing::error!(
                message_id = %entry.message.id, outcome = ?self.outcome,
                "a journaled message failed and nobody waits for it: it is tried again"
            );
            self.ledger.unheard(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: usize = 1_000;

    fn entry(id: &str) -> Entry {
        let message = Prepared {
            id: id.into(),
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: true,
            properties: lapin::BasicProperties::default().with_message_id(id.into()).into(),
            body: vec![0; BODY].into(),
            items: 1,
        };
        let reply = nobody(&message);
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
