//! What a publisher has accepted and not yet settled. It outlives every channel, connection and actor of that publisher.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle_store::{Enqueued, Position};
use fluffle_supervise::MailboxDepth;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{
    class::reply,
    confirm::{Returned, Verdict},
    flow::budget::{ByteRoom, DEFAULT_BYTES, NoRoom, Room},
    publish::{
        error::PublishErrorKind,
        journal::{Custody, Held, Ledger},
        message::Prepared,
        stats::{Counters, PublisherStats},
    },
};

/// How often a journal is looked at for what is left in it.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// How an accepted message ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Confirmed,
    Written,
    Returned(Returned),
    Nacked,
    /// The broker closed the channel over it, twice: no such exchange, no permission.
    Refused {
        code: u16,
        text: String,
    },
    /// The publisher was shut down first.
    Closed,
    /// One of these, of a journaled message: it stays the journal's until somebody takes it from here.
    InCustody(Box<Custody>),
}

/// Why a message was not accepted; its sender still has it.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    Full,
    Closed,
}

impl From<NoRoom> for NotAccepted {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            NoRoom::Full => NotAccepted::Full,
            NoRoom::Closed => NotAccepted::Closed,
        }
    }
}

/// One accepted message and whoever waits for it.
pub(crate) struct Entry {
    pub(crate) message: Prepared,
    pub(crate) reply: oneshot::Sender<Outcome>,
    /// Published even when nobody waits any more.
    pub(crate) detached: bool,
    /// How often the broker has closed a channel over it, or over something beside it.
    refusals: u8,
    /// Published on the channel of now.
    on_the_wire: bool,
    /// Its part of the outbox's bytes, until it is settled.
    room: Option<Room>,
    /// Its place in the journal it came from.
    pub(crate) position: Option<Position>,
    /// Its part of the bytes that are read from there.
    pub(crate) held: Option<Held>,
    /// How often it was not taken, with nobody there to have it back.
    pub(crate) tries: u8,
}

impl Entry {
    pub(crate) fn new(message: Prepared, reply: oneshot::Sender<Outcome>, detached: bool) -> Self {
        Self {
            message,
            reply,
            detached,
            refusals: 0,
            on_the_wire: false,
            room: None,
            position: None,
            held: None,
            tries: 0,
        }
    }

    /// One that was read from the journal: it goes out, whoever waits for it.
    pub(crate) fn journaled(
        message: Prepared,
        reply: oneshot::Sender<Outcome>,
        position: Position,
        held: Held,
    ) -> Self {
        Self { position: Some(position), held: Some(held), ..Self::new(message, reply, true) }
    }

    /// The caller gave up waiting and was handed the message back: publishing it now would surprise him.
    fn withdrawn(&self) -> bool {
        !self.detached && self.reply.is_closed()
    }
}

/// A bounded mailbox and the unsettled messages behind it.
pub(crate) struct Outbox {
    pub(crate) name: String,
    /// Most messages on the wire without a confirm.
    pub(crate) window: usize,
    /// How long a confirm may take before its channel is given up.
    pub(crate) confirm_limit: Duration,
    /// For the bodies of all that is accepted and not settled.
    bytes: ByteRoom,
    /// What is accepted is there, and not in the mailbox.
    pub(crate) journal: Option<Arc<Ledger>>,
    sender: mpsc::Sender<Entry>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Entry>>>,
    unsettled: Mutex<BTreeMap<u64, Entry>>,
    sequence: AtomicU64,
    outstanding: AtomicUsize,
    idle: Notify,
    closed: AtomicBool,
    handles_gone: Notify,
    counters: Counters,
}

impl Outbox {
    pub(crate) fn new(name: String, mailbox: usize, window: usize, confirm_limit: Duration) -> Arc<Self> {
        Self::with(name, mailbox, window, confirm_limit, DEFAULT_BYTES, None)
    }

    /// With room for `bytes` of bodies that are accepted and not settled, or with a journal.
    pub(crate) fn with(
        name: String,
        mailbox: usize,
        window: usize,
        confirm_limit: Duration,
        bytes: u64,
        journal: Option<Ledger>,
    ) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(mailbox.max(1));
        Arc::new(Self {
            name,
            window: window.max(1),
            confirm_limit,
            bytes: ByteRoom::new(bytes),
            journal: journal.map(Arc::new),
            sender,
            receiver: Arc::new(tokio::sync::Mutex::new(receiver)),
            unsettled: Mutex::default(),
            sequence: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            idle: Notify::new(),
            closed: AtomicBool::new(false),
            handles_gone: Notify::new(),
            counters: Counters::default(),
        })
    }

    /// Waits for room, in bytes and in the mailbox, then accepts, unless the publisher is closed.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    pub(crate) async fn accept(&self, mut entry: Entry) -> Result<(), NotAccepted> {
        entry.room = Some(self.bytes.take(entry.message.body.len()).await?);
        match self.sender.reserve().await {
            Ok(permit) if !self.closed.load(Ordering::Acquire) => {
                self.outstanding.fetch_add(1, Ordering::AcqRel);
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                permit.send(entry);
                Ok(())
            }
            _ => Err(NotAccepted::Closed),
        }
    }

    /// Gives the message its place in the journal, unless the publisher is closed or has none.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    pub(crate) async fn post(
        &self,
        message: &Prepared,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<Enqueued, PublishErrorKind> {
        let Some(ledger) = self.journal.as_ref().filter(|_| !self.closed.load(Ordering::Acquire)) else {
            return Err(PublishErrorKind::Closed);
        };
        let posted = ledger.post(message, reply).await?;
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(posted)
    }

    /// Accepts only if there is room now.
    pub(crate) fn try_accept(&self, mut entry: Entry) -> Result<(), NotAccepted> {
        entry.room = Some(self.bytes.try_take(entry.message.body.len())?);
        match self.sender.try_reserve() {
            Ok(permit) if !self.closed.load(Ordering::Acquire) => {
                self.outstanding.fetch_add(1, Ordering::AcqRel);
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                permit.send(entry);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(NotAccepted::Full),
            Ok(_) | Err(mpsc::error::TrySendError::Closed(())) => Err(NotAccepted::Closed),
        }
    }

    /// The mailbox's reading end, for the one actor that drains it now.
    pub(crate) async fn inbox(&self) -> tokio::sync::OwnedMutexGuard<mpsc::Receiver<Entry>> {
        Arc::clone(&self.receiver).lock_owned().await
    }

    /// Moves an entry from the mailbox to the unsettled ones; `None` when its caller has withdrawn it.
    pub(crate) fn take(&self, mut entry: Entry) -> Option<(u64, Prepared)> {
        if entry.withdrawn() {
            self.done();
            return None;
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let message = entry.message.clone();
        entry.on_the_wire = true;
        self.unsettled().insert(sequence, entry);
        Some((sequence, message))
    }

    /// What an earlier channel left without a verdict, oldest first, to be published again under the same ids; but for
    /// those the broker may have closed that channel over, see [`suspect`](Self::suspect).
    pub(crate) fn left_over(&self) -> Vec<(u64, Prepared)> {
        let mut unsettled = self.unsettled();
        let before = unsettled.len();
        unsettled.retain(|_, entry| !entry.withdrawn());
        for _ in unsettled.len()..before {
            self.done();
        }
        self.counters.republished.fetch_add(unsettled.len() as u64, Ordering::Relaxed);
        for entry in unsettled.values_mut() {
            entry.on_the_wire = entry.refusals == 0;
        }
        let again = unsettled.iter().filter(|(_, entry)| entry.on_the_wire);
        again.map(|(sequence, entry)| (*sequence, entry.message.clone())).collect()
    }

    /// The next message the broker may have closed an earlier channel over. Such are published one at a time, with nothing
    /// else on the wire: what the broker refuses then is known, and the others are cleared.
    pub(crate) fn suspect(&self) -> Option<(u64, Prepared)> {
        let mut unsettled = self.unsettled();
        let (sequence, entry) = unsettled.iter_mut().find(|(_, entry)| entry.refusals > 0 && !entry.on_the_wire)?;
        entry.on_the_wire = true;
        Some((*sequence, entry.message.clone()))
    }

    /// The oldest message without a verdict, and the sequence number the next one will get.
    pub(crate) fn progress(&self) -> (Option<u64>, u64) {
        let oldest = self.unsettled().first_key_value().map(|(sequence, _)| *sequence);
        (oldest, self.sequence.load(Ordering::Relaxed))
    }

    /// Whether there are more of those.
    pub(crate) fn has_suspects(&self) -> bool {
        self.unsettled().values().any(|entry| entry.refusals > 0 && !entry.on_the_wire)
    }

    /// Tells the caller. [`Verdict::Lost`] settles nothing: the entry stays for the next channel.
    pub(crate) fn settle(&self, sequence: u64, verdict: Verdict) {
        let (counter, outcome) = match verdict {
            Verdict::Confirmed => (&self.counters.confirmed, Outcome::Confirmed),
            Verdict::Written => (&self.counters.confirmed, Outcome::Written),
            Verdict::Returned(returned) => (&self.counters.returned, Outcome::Returned(returned)),
            Verdict::Nacked => (&self.counters.nacked, Outcome::Nacked),
            Verdict::Lost(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.answer(sequence, outcome);
    }

    /// The broker closed the channel over something published on it: `error` with a permanent class.
    ///
    /// If the text names the exchange (and the topic), it is about all messages for it; else about something that was on
    /// the wire. The first time they are kept, for the topology is declared again before the next channel, and published
    /// one at a time if it is not known which; the second time they go back to their callers.
    pub(crate) fn refuse(&self, error: &lapin::Error) {
        let Some((code, text)) = reply(error) else { return };
        let mut given_back = Vec::new();
        {
            let mut unsettled = self.unsettled();
            let named = |entry: &Entry| {
                text.contains(&format!("exchange '{}'", entry.message.exchange))
                    && (!text.contains("topic '") || text.contains(&format!("topic '{}'", entry.message.routing_key)))
            };
            let any_named = unsettled.values().any(named);
            let about = |entry: &Entry| if any_named { named(entry) } else { entry.on_the_wire };
            for (sequence, entry) in unsettled.iter_mut().filter(|(_, entry)| about(entry)) {
                entry.refusals = entry.refusals.saturating_add(1);
                if entry.refusals > 1 {
                    given_back.push(*sequence);
                }
            }
        }
        for sequence in given_back {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            self.answer(sequence, Outcome::Refused { code, text: text.clone() });
        }
    }

    fn answer(&self, sequence: u64, outcome: Outcome) {
        let Some(mut entry) = self.unsettled().remove(&sequence) else { return };
        let good = matches!(outcome, Outcome::Confirmed | Outcome::Written);
        let Some(ledger) = &self.journal else {
            let id = entry.message.id;
            if let Err(outcome) = entry.reply.send(outcome)
                && !good
            {
                tracing::error!(publisher = %self.name, message_id = %id, ?outcome, "a message failed and nobody waits for it");
            }
            return self.done();
        };
        // An entry that is tried again has nobody who waits.
        let reply = std::mem::replace(&mut entry.reply, oneshot::channel().0);
        if good {
            entry.position.into_iter().for_each(|position| ledger.settled(position));
            let _ = reply.send(outcome);
        } else {
            // Refused or dropped unread, it is the journal's again.
            let _ = reply.send(Outcome::InCustody(Box::new(Custody::new(ledger, entry, outcome))));
        }
    }

    /// Ends the publisher for good: everything not settled goes back to its caller.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bytes.close();
        let mut inbox = self.inbox().await;
        inbox.close();
        // Closed, it ends when the senders that hold a permit have used it: none is missed.
        while let Some(entry) = inbox.recv().await {
            self.hand_back(entry);
        }
        let left: Vec<Entry> = std::mem::take(&mut *self.unsettled()).into_values().collect();
        for entry in left {
            self.hand_back(entry);
        }
        if let Some(ledger) = &self.journal {
            ledger.close().await;
        }
    }

    fn hand_back(&self, entry: Entry) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        // A journaled one is not lost: the next process sends it.
        if entry.reply.send(Outcome::Closed).is_err() && entry.detached && self.journal.is_none() {
            tracing::error!(publisher = %self.name, message_id = %entry.message.id, "closed before this message was confirmed");
        }
        self.done();
    }

    fn done(&self) {
        if self.journal.is_some() {
            return;
        }
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until every message accepted so far, and since, has been settled.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.outstanding() == 0 {
                return;
            }
            // A journal tells nobody when its last record goes.
            let look = if self.journal.is_some() { LOOK } else { Duration::MAX };
            let _ = timeout(look, idle).await;
        }
    }

    /// The last handle was dropped: nothing more will be accepted.
    pub(crate) fn abandon(&self) {
        self.handles_gone.notify_one();
    }

    /// Waits until the last handle is gone and everything it accepted has been settled. For one waiter.
    pub(crate) async fn abandoned(&self) {
        self.handles_gone.notified().await;
        self.idle().await;
    }

    /// Accepted and not settled.
    pub(crate) fn outstanding(&self) -> usize {
        if let Some(ledger) = &self.journal {
            return ledger.outstanding();
        }
        self.outstanding.load(Ordering::Acquire)
    }

    pub(crate) fn depth(&self) -> MailboxDepth {
        let capacity = self.sender.max_capacity();
        MailboxDepth { waiting: capacity - self.sender.capacity(), capacity }
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.counters.read(self.outstanding())
    }

    fn unsettled(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::{ErrorKind, protocol::AMQPError};

    fn refusal(code: u16, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
    }

    fn entry(id: &str, exchange: &str, key: &str) -> (Entry, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let message = Prepared {
            id: id.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: key.to_owned(),
            mandatory: true,
            properties: lapin::BasicProperties::default(),
            body: bytes::Bytes::new(),
        };
        (Entry::new(message, reply, false), outcome)
    }

    async fn on_the_wire(outbox: &Outbox, messages: &[(&str, &str, &str)]) -> Vec<oneshot::Receiver<Outcome>> {
        let mut outcomes = Vec::new();
        for (id, exchange, key) in messages {
            let (entry, outcome) = entry(id, exchange, key);
            outbox.accept(entry).await.unwrap();
            let entry = outbox.inbox().await.recv().await.unwrap();
            outbox.take(entry).unwrap();
            outcomes.push(outcome);
        }
        outcomes
    }

    fn ids(messages: Vec<(u64, Prepared)>) -> Vec<String> {
        messages.into_iter().map(|(_, message)| message.id).collect()
    }

    #[tokio::test]
    async fn a_refusal_that_names_nothing_is_pinned_on_the_one_message_that_repeats_it() {
        let outbox = Outbox::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let mut outcomes = on_the_wire(&outbox, &[("a", "x", "k"), ("bad", "x", "k"), ("c", "x", "k")]).await;
        let error = refusal(406, "PRECONDITION_FAILED - message size 20 is larger than configured max size 10");
        outbox.refuse(&error);
        assert_eq!(ids(outbox.left_over()), [""; 0], "all three are suspects, published one at a time");
        let (first, message) = outbox.suspect().unwrap();
        assert_eq!(message.id, "a");
        outbox.settle(first, Verdict::Confirmed);
        assert_eq!(outbox.suspect().unwrap().1.id, "bad");
        outbox.refuse(&error);
        assert!(matches!(outcomes[0].try_recv(), Ok(Outcome::Confirmed)));
        assert!(matches!(outcomes[1].try_recv(), Ok(Outcome::Refused { code: 406, .. })));
        assert!(outcomes[2].try_recv().is_err(), "it was not on the wire: nothing is known against it");
        outbox.left_over();
        assert_eq!(outbox.suspect().unwrap().1.id, "c");
        assert!(!outbox.has_suspects());
    }

    #[tokio::test]
    async fn a_refusal_that_names_an_exchange_is_about_its_messages_and_no_others() {
        let outbox = Outbox::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let mut outcomes = on_the_wire(&outbox, &[("a", "missing", "k"), ("b", "x", "k"), ("c", "missing", "k")]).await;
        let error = refusal(404, "NOT_FOUND - no exchange 'missing' in vhost '/'");
        outbox.refuse(&error);
        assert_eq!(ids(outbox.left_over()), ["b"]);
        assert_eq!(outbox.suspect().unwrap().1.id, "a");
        outbox.refuse(&error);
        for (outcome, refused) in outcomes.iter_mut().zip([true, false, true]) {
            assert_eq!(matches!(outcome.try_recv(), Ok(Outcome::Refused { code: 404, .. })), refused);
        }
    }

    #[tokio::test]
    async fn closing_hands_everything_back_and_leaves_nothing_on_the_books() {
        let outbox = Outbox::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let mut outcomes = on_the_wire(&outbox, &[("a", "x", "k")]).await;
        let (waiting, outcome) = entry("b", "x", "k");
        outbox.accept(waiting).await.unwrap();
        outcomes.push(outcome);
        outbox.close().await;
        for mut outcome in outcomes {
            assert!(matches!(outcome.try_recv(), Ok(Outcome::Closed)));
        }
        assert_eq!(outbox.outstanding(), 0);
        assert!(outbox.accept(entry("c", "x", "k").0).await.is_err());
    }
}
