//! The send queue itself: a mailbox, and everything that was taken from it and is not settled.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    base::{clock::timeout_at, events::PublishEvent, frame::FrameMax, observer::Listeners, trace::TracerSlot},
    flow::budget::{ByteRoom, DEFAULT_BYTES, NoRoom},
    link::class::reply,
    publish::{
        backlog::{Backlog, BacklogError, StoreDepth},
        confirm::ConfirmVerdict,
        entry::Entry,
        error::PublishErrorKind,
        journal::Ledger,
        message::Prepared,
        name::PublisherName,
        outcome::{OutcomeSender, SendOutcome},
        passing::{Passing, Republish},
        send_queue::{
            books::Books,
            direct::Direct,
            fed_by::FedBy,
            reserved::Reserved,
            unsettled::{Charged, Numbering, Unsettled},
        },
        travel::NotSent,
    },
};

/// How often a journal is asked how many records it has left, because it tells nobody when the last one goes.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// The settings of one send queue.
pub(crate) struct SendSettings {
    pub(crate) name: String,
    /// Most messages, or envelopes, accepted and not yet on the wire. At least 1.
    pub(crate) mailbox: usize,
    /// Most messages, or envelopes, on the wire without a confirm. At least 1.
    pub(crate) window: usize,
    /// How long a confirm may take before its channel is given up.
    pub(crate) confirm_limit: Duration,
    /// Most bytes of bodies accepted and not settled.
    pub(crate) bytes: u64,
    pub(crate) journal: Option<Ledger>,
    pub(crate) batches: Option<Arc<dyn OpenBatches>>,
    pub(crate) republish: Republish,
}

/// The open batches of a publisher, without the type of their messages.
pub(crate) trait OpenBatches: Send + Sync {
    /// Sends the batches that were due by `now`, and those that wait for nothing any more. Says when the next one is
    /// due; if no batch is open, [`changed`](Self::changed) is told of the next one.
    fn send_due(&self, send_queue: &SendQueue, now: Instant) -> Option<Instant>;

    /// Told when a batch is to be sent before the time that [`send_due`](Self::send_due) gave.
    fn changed(&self) -> &Notify;

    /// Sends all batches that are open.
    fn send_open(&self, send_queue: &SendQueue);

    /// Sends all batches that are open, and opens no more.
    fn close(&self, send_queue: &SendQueue);

    /// Calls `look` with the number of messages in open batches. No batch is sent meanwhile.
    fn hold(&self, look: &mut dyn FnMut(usize));
}

/// A bounded mailbox and the unsettled messages behind it.
pub(crate) struct SendQueue {
    pub(crate) name: Arc<PublisherName>,
    pub(crate) window: usize,
    pub(crate) confirm_limit: Duration,
    /// Room for the bodies of all messages accepted and not settled.
    pub(super) bytes: ByteRoom,
    /// If there is a journal, accepted messages are in it, and never in the mailbox.
    pub(crate) journal: Option<Arc<Ledger>>,
    batches: Option<Arc<dyn OpenBatches>>,
    pub(crate) republish: Republish,
    pub(super) direct: Direct,
    pub(super) sender: mpsc::Sender<Entry>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Entry>>>,
    pub(super) unsettled: Unsettled,
    pub(super) books: Books,
    /// Why the publisher is closed, once it is.
    closed: OnceLock<NotSent>,
    handles_gone: Notify,
    fed_by: FedBy,
    most_header_bytes: AtomicUsize,
    /// What makes spans of accepted messages.
    pub(crate) tracer: TracerSlot,
}

impl SendQueue {
    /// A send queue without a journal and without batches, whose owner is told of each refusal at once.
    pub(crate) fn new(name: String, mailbox: usize, window: usize, confirm_limit: Duration) -> Arc<Self> {
        let bytes = DEFAULT_BYTES;
        let republish = Republish::Never;
        Self::with(SendSettings {
            name,
            mailbox,
            window,
            confirm_limit,
            bytes,
            journal: None,
            batches: None,
            republish,
        })
    }

    pub(crate) fn with(settings: SendSettings) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(settings.mailbox.max(1));
        let (name, journal) = (Arc::new(PublisherName::new(settings.name)), settings.journal.map(Arc::new));
        Arc::new(Self {
            books: Books::new(Arc::clone(&name), journal.clone()),
            name,
            window: settings.window.max(1),
            confirm_limit: settings.confirm_limit,
            bytes: ByteRoom::new(settings.bytes),
            journal,
            batches: settings.batches,
            republish: settings.republish,
            direct: Direct::default(),
            sender,
            receiver: Arc::new(tokio::sync::Mutex::new(receiver)),
            unsettled: Unsettled::default(),
            closed: OnceLock::new(),
            handles_gone: Notify::new(),
            fed_by: FedBy::default(),
            most_header_bytes: AtomicUsize::new(FrameMax::default().most_header_bytes()),
            tracer: TracerSlot::default(),
        })
    }

    /// Waits for room, in bytes and in the mailbox or in the journal, then accepts `entry`.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    ///
    /// # Errors
    /// If the publisher is closed, or the journal is full or fails.
    pub(crate) async fn accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        if let Some(ledger) = self.ledger()? {
            return ledger.accept(entry).await;
        }
        let place = self.reserve(entry.message.body.len()).await?;
        self.count(entry.items());
        self.send(place, entry);
        Ok(())
    }

    /// Accepts `entry` only if there is room now.
    pub(crate) fn try_accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        let place = self.try_reserve(entry.message.body.len())?;
        self.count(entry.items());
        self.send(place, entry);
        Ok(())
    }

    /// Waits for a place for up to `bytes` of body. Cancellation safe.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reserved, PublishErrorKind> {
        if let Some(ledger) = self.ledger()? {
            return ledger.reserve(bytes).await.map(Reserved::Journal);
        }
        let room = self.bytes.take(bytes).await.map_err(|no_room| self.refusal(no_room))?;
        match self.sender.clone().reserve_owned().await {
            Ok(slot) if !self.is_closed() => Ok(Reserved::Mailbox { slot, room }),
            _ => Err(self.not_sent()),
        }
    }

    /// Waits for a place for this message, headers included. Cancellation safe.
    pub(crate) async fn reserve_for(&self, message: &Prepared) -> Result<Reserved, PublishErrorKind> {
        match self.ledger()? {
            Some(ledger) => ledger.reserve_for(message).await.map(Reserved::Journal),
            None => self.reserve(message.body.len()).await,
        }
    }

    /// A place in the mailbox, if there is one now. Never a place in a journal, because that means waiting for the
    /// disk.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<Reserved, PublishErrorKind> {
        if self.ledger()?.is_some() {
            return Err(PublishErrorKind::Full);
        }
        let room = self.bytes.try_take(bytes).map_err(|no_room| self.refusal(no_room))?;
        match self.sender.clone().try_reserve_owned() {
            Ok(slot) if !self.is_closed() => Ok(Reserved::Mailbox { slot, room }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(PublishErrorKind::Full),
            _ => Err(self.not_sent()),
        }
    }

    fn refusal(&self, no_room: NoRoom) -> PublishErrorKind {
        match no_room {
            NoRoom::Full => PublishErrorKind::Full,
            NoRoom::Closed => self.not_sent(),
        }
    }

    /// Publishes an entry that has been [counted](Self::count), or puts it in its place. Waits for nothing. Entries
    /// leave in the order of these calls.
    pub(crate) fn send(&self, place: Reserved, mut entry: Entry) {
        match (place, &self.journal) {
            (Reserved::Mailbox { slot, mut room }, _) => {
                room.shrink(entry.message.body.len());
                entry.room = Some(room);
                entry.times.accepted = self.books.now();
                if let Err(entry) = self.direct.publish_now(entry, self.window, &self.unsettled, &self.books) {
                    self.direct.wait();
                    slot.send(entry);
                }
            }
            (Reserved::Journal(place), Some(ledger)) => ledger.send(place, entry),
            // Unreachable: only the journal makes places in the journal.
            (Reserved::Journal(_), None) => {}
        }
    }

    /// Most bytes that the properties of a message, headers included, may take on the current channel, or on the last
    /// one: the room in one negotiated frame. To be compared with [`Prepared::header_bytes`]. Before the first channel,
    /// it is the room in the frame that the client asks for unless the URI says otherwise.
    ///
    /// A message that takes more ends as [`PublishErrorKind::HeadersTooLarge`], and is not sent.
    pub(crate) fn most_header_bytes(&self) -> usize {
        self.most_header_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_most_header_bytes(&self, most: usize) {
        self.most_header_bytes.store(most, Ordering::Relaxed);
    }

    /// Refuses a message that the current channel could not send, before it takes a place in the mailbox or the
    /// journal. The channel that publishes it decides again ([`ConfirmTracker::publish`]), because its frame may be
    /// another one.
    ///
    /// [`ConfirmTracker::publish`]: crate::publish::confirm::ConfirmTracker::publish
    pub(crate) fn has_room_for_headers(&self, message: &Prepared) -> Result<(), PublishErrorKind> {
        let (bytes, most) = (message.header_bytes(), self.most_header_bytes());
        if bytes > most { Err(PublishErrorKind::HeadersTooLarge { bytes, most }) } else { Ok(()) }
    }

    /// Enters `items` messages in the books; they are about to be sent.
    pub(crate) fn count(&self, items: usize) {
        self.books.accept(items);
    }

    /// From now on these hear of what happens to messages, and of what has happened.
    pub(crate) fn listen(&self, listeners: Listeners<PublishEvent>) {
        self.books.listen(listeners);
    }

    /// An envelope of `items` messages that were [counted](Self::count) cannot be sent after all.
    pub(crate) fn unsent(&self, items: usize, reply: OutcomeSender, kind: PublishErrorKind) {
        self.books.unsent(items, reply, kind);
    }

    /// The messages that an earlier channel left without a verdict, oldest first, to be published again under the same
    /// ids. Suspects are left out, see [`suspect`](Self::suspect).
    pub(crate) fn left_over(&self) -> Vec<Numbering> {
        self.unsettled.left_over(&self.books)
    }

    /// The next message that the broker may have closed an earlier channel over, to be published with nothing else on
    /// the wire.
    pub(crate) fn suspect(&self) -> Option<Numbering> {
        self.unsettled.suspect(&self.books)
    }

    /// Whether there are more suspects.
    pub(crate) fn has_suspects(&self) -> bool {
        self.unsettled.has_suspects()
    }

    /// The sequence number of the oldest message on the wire without a verdict, and that of the next message.
    pub(crate) fn progress(&self) -> (Option<u64>, u64) {
        self.unsettled.progress()
    }

    /// Tells the senders, and gives what is to be published now. [`ConfirmVerdict::Lost`] settles nothing: the message
    /// stays for the next channel. Nor does a refusal that passes, see [`due`](Self::due).
    pub(crate) fn settle(
        &self,
        verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>,
        passing: &Passing,
    ) -> Vec<Numbering> {
        self.unsettled.settle(verdicts, passing, &self.books)
    }

    /// Whether the present channel is given up, because a queue may refuse everything on it. Says so once.
    pub(crate) fn gives_up_channel(&self) -> bool {
        self.unsettled.gives_up_channel()
    }

    /// The refused messages whose time has come to be published again, and when the next one is due.
    pub(crate) fn due(&self) -> (Vec<Numbering>, Option<Instant>) {
        self.unsettled.due(&self.books)
    }

    /// The broker closed the channel over something published on it: `error` with a permanent class.
    ///
    /// If the text names the exchange (and the topic), the refusal is about all messages for it; else it is about one
    /// of the messages that were on the wire. The first time they are kept, because the topology is declared again
    /// before the next channel, and they are published one at a time if it is not known which one is to blame. The
    /// second time they go back to their senders.
    ///
    /// Says whether other messages wait for the next channel. Those need not wait long, because a message is charged
    /// with two refusals at most.
    pub(crate) fn refuse(&self, error: &lapin::Error) -> bool {
        self.unsettled.refuse(error).is_some_and(|charged| self.give_back(charged, error))
    }

    /// The broker closed the connection over an error of its own (541). RabbitMQ's channel crashes over an answer to an
    /// address of direct reply-to that it cannot read, and the sender of a request writes that address. So answers that
    /// were on the wire are refused as [`refuse`](Self::refuse) says, and no other message.
    pub(crate) fn refuse_answers(&self, error: &lapin::Error) {
        if reply(error).is_some() {
            self.give_back(self.unsettled.refuse_answers(), error);
        }
    }

    /// Tells the senders of what is refused for the second time. Says whether other messages are outstanding.
    fn give_back(&self, Charged { refused, blamed }: Charged, error: &lapin::Error) -> bool {
        let Some((code, text)) = reply(error) else { return false };
        // Asked before a sender is told, because a sender that is told may send more.
        let others_wait = self.outstanding() > blamed;
        for entry in refused {
            self.books.settle(entry, SendOutcome::Refused { code, text: text.clone() });
        }
        others_wait
    }

    fn ledger(&self) -> Result<Option<&Ledger>, PublishErrorKind> {
        if self.is_closed() { Err(self.not_sent()) } else { Ok(self.journal.as_deref()) }
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// The error of a message that comes after the publisher is closed.
    pub(crate) fn not_sent(&self) -> PublishErrorKind {
        PublishErrorKind::NotSent(self.why_closed())
    }

    fn why_closed(&self) -> NotSent {
        self.closed.get().copied().unwrap_or(NotSent::Ended)
    }

    /// Sends open batches when they are due, for as long as it is polled. Keeps no state of its own: the next caller
    /// begins with a look at the batches.
    pub(crate) async fn linger(&self) {
        let Some(batches) = &self.batches else { return std::future::pending().await };
        loop {
            let due = batches.send_due(self, Instant::now());
            let changed = batches.changed().notified();
            match due {
                Some(due) => drop(timeout_at(due, changed).await),
                None => changed.await,
            }
        }
    }

    /// Sends all open batches.
    pub(crate) fn send_open(&self) {
        if let Some(batches) = &self.batches {
            batches.send_open(self);
        }
    }

    /// The reading end of the mailbox, which one actor at a time empties.
    pub(crate) async fn inbox(&self) -> tokio::sync::OwnedMutexGuard<mpsc::Receiver<Entry>> {
        Arc::clone(&self.receiver).lock_owned().await
    }

    /// Ends the publisher for good: everything not settled goes back to its senders. A journal is flushed, until
    /// `flushed_by` at the latest.
    pub(crate) async fn close(&self, why: NotSent, flushed_by: std::time::Instant) {
        self.take_no_more(why);
        let mut inbox = self.inbox().await;
        inbox.close();
        // `recv` ends only after every sender that holds a permit has used or dropped it, so no entry is missed.
        while let Some(entry) = inbox.recv().await {
            self.books.hand_back(entry, self.why_closed());
        }
        for entry in self.unsettled.drain() {
            self.books.hand_back(entry, self.why_closed());
        }
        if let Some(ledger) = &self.journal {
            ledger.close(flushed_by).await;
        }
    }

    /// Closes a send queue that no service has ever had.
    pub(crate) fn close_unborn(&self) {
        self.take_no_more(NotSent::NeverStarted);
        // No actor has ever held the reading end, so the lock is free.
        if let Ok(mut inbox) = self.receiver.try_lock() {
            inbox.close();
            while let Ok(entry) = inbox.try_recv() {
                self.books.hand_back(entry, self.why_closed());
            }
        }
        if let Some(ledger) = &self.journal {
            ledger.forget_waiting();
        }
    }

    fn take_no_more(&self, why: NotSent) {
        // If it is closed already, the first reason stands.
        let _ = self.closed.set(why);
        self.bytes.close();
        // The messages in open batches were accepted, and their batches have their places: they are sent.
        if let Some(batches) = &self.batches {
            batches.close(self);
        }
    }

    /// Waits until every message accepted by then has been settled, and those accepted while it waits too.
    pub(crate) async fn idle(&self) {
        loop {
            let emptied = self.books.emptied();
            if self.outstanding() == 0 {
                return;
            }
            if self.journal.is_some() {
                // A journal tells nobody when its last record goes.
                let _ = timeout_at(Instant::now() + LOOK, emptied).await;
            } else {
                emptied.await;
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
        // Only this publisher tries again the journaled messages that failed, so it waits for them too.
        while self.journal.as_ref().is_some_and(|ledger| ledger.left() > 0) {
            sleep(LOOK).await;
        }
    }

    /// Messages that a drain or a flush waits for: those accepted and not settled, those in open batches included. With
    /// a journal, envelopes, without those that wait for another try or for their senders to look.
    pub(crate) fn outstanding(&self) -> usize {
        let mut outstanding = 0;
        self.with_open(|open| outstanding = open + self.books.outstanding());
        outstanding
    }

    /// Calls `look` with the number of messages in open batches. No batch is sent meanwhile.
    pub(super) fn with_open(&self, mut look: impl FnMut(usize)) {
        match &self.batches {
            Some(batches) => batches.hold(&mut look),
            None => look(0),
        }
    }

    /// Adds a store that feeds this publisher, for [`backlog`](Self::backlog).
    pub(crate) fn fed_by(&self, backlog: Weak<dyn Backlog>) {
        self.fed_by.add(backlog);
    }

    /// How many messages wait in the journal and in the stores that feed this publisher; the stores are told to hurry.
    /// `None` if there is no journal and no such store.
    pub(crate) async fn backlog(&self) -> Option<Result<u64, BacklogError>> {
        let sources = self.fed_by.stores();
        if sources.is_empty() && self.journal.is_none() {
            return None;
        }
        let own = self.journal.as_ref().map_or(0, |ledger| ledger.waiting_to_leave() as u64);
        sources.iter().for_each(|source| source.hurry());
        Some(self.fed_by.depth().await.map(|depth| own + depth.map_or(0, |depth| depth.messages)))
    }

    /// The messages that wait in the stores that feed this publisher, or `None` if there is no such store.
    pub(crate) async fn stored(&self) -> Result<Option<StoreDepth>, BacklogError> {
        self.fed_by.depth().await
    }
}
