//! What a publisher has accepted and not yet settled. It outlives every channel, connection and actor of that publisher.

mod direct;
mod reserved;
mod unsettled;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle_supervise::MailboxDepth;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};

use self::direct::Direct;
pub(crate) use self::{
    direct::{OnChannel, Waiting},
    reserved::Reserved,
};
pub(crate) use crate::publish::outcome::SendOutcome;
use crate::{
    base::{clock::timeout_at, frame::FrameMax, numbered::Numbered},
    flow::budget::{ByteRoom, DEFAULT_BYTES},
    publish::{
        backlog::{Backlog, BacklogError},
        entry::Entry,
        error::PublishErrorKind,
        journal::Ledger,
        message::Prepared,
        name::Name,
        outcome::{Address, Kept, Pending, Reply},
        stats::{PublisherCounters, PublisherStats},
        travel::NotSent,
    },
};

/// How often a journal is looked at for what is left in it.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Longer than any message takes: nobody waits by the clock.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a publisher's outbox is made of.
pub(crate) struct SendSettings {
    pub(crate) name: String,
    /// Most messages, or envelopes, accepted and not yet on the wire.
    pub(crate) mailbox: usize,
    /// Most messages, or envelopes, on the wire without a confirm.
    pub(crate) window: usize,
    /// How long a confirm may take before its channel is given up.
    pub(crate) confirm_limit: Duration,
    /// Most bytes of bodies accepted and not settled.
    pub(crate) bytes: u64,
    pub(crate) journal: Option<Ledger>,
    pub(crate) batches: Option<Arc<dyn OpenBatches>>,
}

/// The open batches of a publisher, the type of their messages forgotten.
pub(crate) trait OpenBatches: Send + Sync {
    /// Sends those that were due by `now`, and says when the next one is. Until then nobody is told; when there is none,
    /// [`opened`](Self::opened) is told of the next.
    fn send_due(&self, send_queue: &SendQueue, now: Instant) -> Option<Instant>;

    fn opened(&self) -> &Notify;

    /// Sends all that are open.
    fn send_open(&self, send_queue: &SendQueue);

    /// Sends all that are open, and opens no more.
    fn close(&self, send_queue: &SendQueue);

    /// Calls `look` with the number of messages in them, none of which is sent meanwhile.
    fn hold(&self, look: &mut dyn FnMut(usize));
}

/// A bounded mailbox and the unsettled messages behind it.
pub(crate) struct SendQueue {
    pub(crate) name: Name,
    pub(crate) window: usize,
    pub(crate) confirm_limit: Duration,
    /// For the bodies of all that is accepted and not settled.
    bytes: ByteRoom,
    /// What is accepted is there, and not in the mailbox.
    pub(crate) journal: Option<Arc<Ledger>>,
    batches: Option<Arc<dyn OpenBatches>>,
    direct: Direct,
    sender: mpsc::Sender<Entry>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Entry>>>,
    unsettled: Mutex<Numbered<Entry>>,
    sequence: AtomicU64,
    /// Messages, but for those in open batches.
    outstanding: AtomicUsize,
    idle: Notify,
    closed: OnceLock<NotSent>,
    handles_gone: Notify,
    fed_by: Mutex<Vec<Weak<dyn Backlog>>>,
    counters: PublisherCounters,
    most_header_bytes: AtomicUsize,
}

impl SendQueue {
    /// One without a journal or batches.
    pub(crate) fn new(name: String, mailbox: usize, window: usize, confirm_limit: Duration) -> Arc<Self> {
        let bytes = DEFAULT_BYTES;
        Self::with(SendSettings { name, mailbox, window, confirm_limit, bytes, journal: None, batches: None })
    }

    pub(crate) fn with(terms: SendSettings) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(terms.mailbox.max(1));
        Arc::new(Self {
            name: Name::new(terms.name),
            window: terms.window.max(1),
            confirm_limit: terms.confirm_limit,
            bytes: ByteRoom::new(terms.bytes),
            journal: terms.journal.map(Arc::new),
            batches: terms.batches,
            direct: Direct::default(),
            sender,
            receiver: Arc::new(tokio::sync::Mutex::new(receiver)),
            unsettled: Mutex::default(),
            sequence: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            idle: Notify::new(),
            closed: OnceLock::new(),
            handles_gone: Notify::new(),
            fed_by: Mutex::default(),
            counters: PublisherCounters::default(),
            most_header_bytes: AtomicUsize::new(FrameMax::default().most_header_bytes()),
        })
    }

    /// Waits for room, in bytes and in the mailbox or in the journal, then accepts, unless the publisher is closed.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    pub(crate) async fn accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        if let Some(ledger) = self.ledger()? {
            ledger.accept(entry).await?;
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let place = self.reserve(entry.message.body.len()).await?;
        self.count(entry.items());
        self.send(place, entry);
        Ok(())
    }

    /// Accepts only if there is room now.
    pub(crate) fn try_accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        let place = self.try_reserve(entry.message.body.len())?;
        self.count(entry.items());
        self.send(place, entry);
        Ok(())
    }

    /// Most bytes that the properties of a message, with its headers, may take on the channel of now, or of the last one:
    /// what one negotiated frame has room for. To be compared with [`Prepared::header_bytes`]. Before the first channel it is
    /// that of the frame which is asked for unless the URI says otherwise.
    ///
    /// A message that takes more ends as [`PublishErrorKind::HeadersTooLarge`], and is not sent.
    pub(crate) fn most_header_bytes(&self) -> usize {
        self.most_header_bytes.load(Ordering::Relaxed)
    }

    /// Refuses what the channel of now could not send, before it takes a place in the mailbox or the journal. Whether it can be
    /// sent is decided when it is published ([`ConfirmTracker::publish`](crate::publish::confirm::ConfirmTracker::publish)), on whichever channel.
    pub(crate) fn has_room_for_headers(&self, message: &Prepared) -> Result<(), PublishErrorKind> {
        let (bytes, most) = (message.header_bytes(), self.most_header_bytes());
        if bytes > most { Err(PublishErrorKind::HeadersTooLarge { bytes, most }) } else { Ok(()) }
    }

    /// Publishes `message`, whoever waits, and waits for what becomes of it.
    pub(crate) async fn publish(&self, message: Prepared) -> SendOutcome {
        let to = Address { exchange: Arc::clone(&message.exchange), routing_key: Arc::clone(&message.routing_key) };
        let deadline = Instant::now() + NO_DEADLINE;
        let (pending, reply) = Pending::new(Arc::clone(&message.id), to, deadline, Kept::InMemory);
        match self.accept(Entry::new(message, reply, true)).await {
            Ok(()) => match pending.outcome().await {
                SendOutcome::Unsent(PublishErrorKind::NotSent(_)) => SendOutcome::Closed,
                outcome => outcome.clone(),
            },
            Err(_) => SendOutcome::Closed,
        }
    }

    /// What has been [counted](Self::count) cannot be sent after all.
    pub(crate) fn unsent(&self, items: usize, reply: Reply, kind: PublishErrorKind) {
        self.counters.failed.fetch_add(items as u64, Ordering::Relaxed);
        reply.settle(SendOutcome::Unsent(kind));
        self.done(items);
    }

    /// Takes `items` messages on the books that are about to be sent.
    pub(crate) fn count(&self, items: usize) {
        self.counters.accepted.fetch_add(items as u64, Ordering::Relaxed);
        if self.journal.is_none() {
            self.outstanding.fetch_add(items, Ordering::AcqRel);
        }
    }

    fn ledger(&self) -> Result<Option<&Ledger>, PublishErrorKind> {
        if self.is_closed() { Err(self.not_sent()) } else { Ok(self.journal.as_deref()) }
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// What is not accepted once it is closed.
    pub(crate) fn not_sent(&self) -> PublishErrorKind {
        PublishErrorKind::NotSent(self.closed.get().copied().unwrap_or(NotSent::Ended))
    }

    /// Sends open batches when they are due, for as long as it is polled. What it knows is in the batches: whoever polls it
    /// next begins with a look at them.
    pub(crate) async fn linger(&self) {
        let Some(batches) = &self.batches else { return std::future::pending().await };
        loop {
            match batches.send_due(self, Instant::now()) {
                Some(due) => sleep_until(due).await,
                None => batches.opened().notified().await,
            }
        }
    }

    /// Sends all open batches.
    pub(crate) fn send_open(&self) {
        if let Some(batches) = &self.batches {
            batches.send_open(self);
        }
    }

    /// The mailbox's reading end, for the one actor that drains it now.
    pub(crate) async fn inbox(&self) -> tokio::sync::OwnedMutexGuard<mpsc::Receiver<Entry>> {
        Arc::clone(&self.receiver).lock_owned().await
    }

    /// Ends the publisher for good: everything not settled goes back to its caller. A journal is flushed, up to `flushed_by`.
    pub(crate) async fn close(&self, why: NotSent, flushed_by: std::time::Instant) {
        self.take_no_more(why);
        let mut inbox = self.inbox().await;
        inbox.close();
        // Closed, it ends when the senders that hold a permit have used it: none is missed.
        while let Some(entry) = inbox.recv().await {
            self.hand_back(entry);
        }
        let mut left = std::mem::take(&mut *self.unsettled());
        for entry in left.drain() {
            self.hand_back(entry);
        }
        if let Some(ledger) = &self.journal {
            ledger.close(flushed_by).await;
        }
    }

    /// Closes one that no service has ever had.
    pub(crate) fn close_unborn(&self) {
        self.take_no_more(NotSent::NeverStarted);
        // Nobody else has ever read from it.
        if let Ok(mut inbox) = self.receiver.try_lock() {
            inbox.close();
            while let Ok(entry) = inbox.try_recv() {
                self.hand_back(entry);
            }
        }
        if let Some(ledger) = &self.journal {
            ledger.forget_waiting();
        }
    }

    fn take_no_more(&self, why: NotSent) {
        // The first reason stands.
        let _ = self.closed.set(why);
        self.bytes.close();
        // They hold places, and what is in them was accepted.
        if let Some(batches) = &self.batches {
            batches.close(self);
        }
    }

    fn hand_back(&self, entry: Entry) {
        let items = entry.items();
        self.counters.failed.fetch_add(items as u64, Ordering::Relaxed);
        // A journaled one is not lost: the next process sends it.
        if entry.reply.unheard() && entry.detached && self.journal.is_none() {
            tracing::error!(publisher = %self.name, message_id = %entry.message.id, "closed before this message was confirmed");
        }
        entry.reply.close(self.closed.get().copied().unwrap_or(NotSent::Ended));
        self.done(items);
    }

    fn done(&self, items: usize) {
        if self.journal.is_some() {
            return;
        }
        if self.outstanding.fetch_sub(items, Ordering::AcqRel) == items {
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
            if self.journal.is_some() {
                // A journal tells nobody when its last record goes.
                let _ = timeout_at(Instant::now() + LOOK, idle).await;
            } else {
                idle.await;
            }
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
        // Nobody else would try again what waits to be.
        while self.journal.as_ref().is_some_and(|ledger| ledger.left() > 0) {
            sleep(LOOK).await;
        }
    }

    /// Messages accepted and not settled; an envelope that a journal has counts as one.
    pub(crate) fn outstanding(&self) -> usize {
        let settling = || match &self.journal {
            Some(ledger) => ledger.outstanding(),
            None => self.outstanding.load(Ordering::Acquire),
        };
        let mut outstanding = 0;
        self.with_open(|open| outstanding = open + settling());
        outstanding
    }

    /// Calls `look` with the number of messages in open batches, none of which is sent meanwhile.
    fn with_open(&self, mut look: impl FnMut(usize)) {
        match &self.batches {
            Some(batches) => batches.hold(&mut look),
            None => look(0),
        }
    }

    pub(crate) fn fed_by(&self, backlog: Weak<dyn Backlog>) {
        let mut all = self.fed_by.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(backlog);
    }

    /// What waits in its journal, or in what it is fed from, which is hurried; `None` if it has neither.
    pub(crate) async fn backlog(&self) -> Option<Result<u64, BacklogError>> {
        let sources: Vec<_> = {
            let all = self.fed_by.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        if sources.is_empty() && self.journal.is_none() {
            return None;
        }
        let mut waiting = self.journal.as_ref().map_or(0, |ledger| ledger.waiting_to_leave() as u64);
        for source in sources {
            source.hurry();
            match source.waiting().await {
                Ok(more) => waiting += more,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(waiting))
    }

    pub(crate) fn depth(&self) -> MailboxDepth {
        let capacity = self.sender.max_capacity();
        MailboxDepth { waiting: capacity - self.sender.capacity(), capacity }
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        let mut in_open = 0;
        let mut stats = PublisherStats::default();
        self.with_open(|open| {
            in_open = open;
            stats = self.counters.read(0);
        });
        stats.accepted += in_open as u64;
        stats.outstanding = self.outstanding();
        stats
    }

    fn unsettled(&self) -> MutexGuard<'_, Numbered<Entry>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
