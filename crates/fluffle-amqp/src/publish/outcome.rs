//! How an accepted message ended, and how its senders hear of it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fluffle_store::{AppendErrorKind, Enqueued};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::{
        clock::timeout_at,
        events::PublishResult,
        trace::{self, PublishSpan},
    },
    publish::{
        confirm::Returned,
        error::PublishErrorKind,
        message::{Address, Prepared},
        travel::{NotSent, Travel},
        unconfirmed::Unconfirmed,
    },
};

/// How an accepted message ended.
#[derive(Clone, Debug)]
pub(crate) enum SendOutcome {
    Confirmed,
    Written,
    Returned(Returned),
    Nacked,
    /// The broker closed the channel over it, twice: no such exchange, no permission.
    Refused {
        code: u16,
        text: String,
    },
    /// The publisher accepted the message and then could not send it.
    Unsent(PublishErrorKind),
    /// The publisher was shut down first.
    Closed,
}

impl SendOutcome {
    pub(crate) fn result(&self) -> PublishResult {
        match self {
            SendOutcome::Confirmed | SendOutcome::Written => PublishResult::Confirmed,
            SendOutcome::Returned(_) => PublishResult::Returned,
            SendOutcome::Nacked => PublishResult::Nacked,
            SendOutcome::Refused { .. } | SendOutcome::Unsent(_) | SendOutcome::Closed => PublishResult::Failed,
        }
    }
}

/// Whether a message is still published after its sender has stopped waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The message is not published: if it has not been sent by then, it is withdrawn.
    No,
    /// The message is published from the memory of its publisher.
    InMemory,
    /// The message is published from the journal.
    InJournal,
}

/// A message that the broker did not take, and that the journal keeps until each of its senders has it back. Dropped
/// before that, the message is the journal's again.
pub(crate) trait InCustody: Send {
    /// How many messages this is: 1, or the items of an envelope.
    fn items(&self) -> usize;

    /// Every sender has its message back.
    fn taken_back(self: Box<Self>);
}

/// What the sender of a message looks at until the message is settled. The senders of all items of one envelope share
/// it.
pub(crate) struct Pending {
    /// The id of the message or envelope. An item of an envelope has the id `<id>/<index>`.
    pub(crate) id: Arc<str>,
    to: Address,
    deadline: Instant,
    kept: Kept,
    travel: Travel,
    /// Set once the message has its place in the journal; resolves when it is on the disk.
    safe: OnceLock<Shared<BoxFuture<'static, Result<(), AppendErrorKind>>>>,
    outcome: OnceLock<SendOutcome>,
    /// Told when `safe` or `outcome` is set.
    news: Notify,
    hand_back: Mutex<HandBack>,
}

/// The way of a journaled message that failed back to its senders.
#[derive(Default)]
struct HandBack {
    custody: Option<Box<dyn InCustody>>,
    /// How many senders have their message back.
    taken_back: usize,
}

/// The right to settle a message. Dropped unused, it settles the message as [`SendOutcome::Closed`].
pub(crate) struct OutcomeSender {
    pending: Arc<Pending>,
    /// In a box, because most messages have none, and each has an `OutcomeSender`.
    attached: Option<Box<Attached>>,
}

/// What a message holds until its outcome is known.
#[derive(Default)]
struct Attached {
    /// The span of the message.
    span: Option<Box<dyn PublishSpan>>,
    /// Keeps the routing key of the message busy, if batches wait until the key has nothing unconfirmed.
    unconfirmed: Option<Unconfirmed>,
}

impl Pending {
    pub(crate) fn new(id: Arc<str>, to: Address, deadline: Instant, kept: Kept) -> (Arc<Self>, OutcomeSender) {
        let pending = Arc::new(Self {
            id,
            to,
            deadline,
            kept,
            travel: Travel::default(),
            safe: OnceLock::new(),
            outcome: OnceLock::new(),
            news: Notify::new(),
            hand_back: Mutex::default(),
        });
        (Arc::clone(&pending), OutcomeSender { pending, attached: None })
    }

    /// The destination, as errors and log lines name it.
    pub(crate) fn target(&self) -> String {
        self.to.target()
    }

    /// Waits for the outcome. Cancellation safe: it changes nothing.
    pub(crate) async fn outcome(&self) -> &SendOutcome {
        loop {
            // Registered before the look, so that an outcome which is set in between is not missed.
            let news = self.news.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            news.await;
        }
    }

    /// Waits for the broker's confirm, up to the deadline. Each sender calls this once, because a failure counts as
    /// handed back to that sender.
    pub(crate) async fn confirmed(&self) -> Result<(), PublishErrorKind> {
        if let Some(SendOutcome::Confirmed | SendOutcome::Written) = self.outcome.get() {
            return Ok(());
        }
        let journaled = self.kept == Kept::InJournal;
        if journaled {
            // If the disk has not answered by the deadline, nobody knows: the message is published once it is on the
            // disk.
            let safe = timeout_at(self.deadline, Box::pin(self.journaled())).await;
            safe.map_err(|_| PublishErrorKind::Unknown)??;
        }
        let kind = match timeout_at(self.deadline, self.outcome()).await {
            Ok(SendOutcome::Confirmed | SendOutcome::Written) => return Ok(()),
            Ok(SendOutcome::Closed) | Err(_) if journaled => return Err(PublishErrorKind::Journaled),
            Ok(SendOutcome::Closed) => PublishErrorKind::Closed,
            Err(_) => self.given_up(),
            Ok(SendOutcome::Returned(returned)) => PublishErrorKind::Returned(returned.clone()),
            Ok(SendOutcome::Nacked) => PublishErrorKind::Nacked,
            Ok(SendOutcome::Refused { code, text }) => PublishErrorKind::Refused { code: *code, text: text.clone() },
            Ok(SendOutcome::Unsent(kind)) => kind.clone(),
        };
        self.take_back();
        Err(kind)
    }

    /// The deadline has passed: withdraws the message, unless it has been sent or is kept.
    fn given_up(&self) -> PublishErrorKind {
        match self.kept {
            Kept::No if self.travel.withdraw() => PublishErrorKind::NotSent(NotSent::Deadline),
            Kept::InMemory if !self.travel.departed() => PublishErrorKind::Waiting,
            _ => PublishErrorKind::Unknown,
        }
    }

    /// Waits until the message is in the journal. Returns at once if there is none.
    pub(crate) async fn journaled(&self) -> Result<(), PublishErrorKind> {
        if self.kept != Kept::InJournal {
            return Ok(());
        }
        loop {
            let news = self.news.notified();
            if let Some(safe) = self.safe.get() {
                return safe.clone().await.map_err(PublishErrorKind::Journal);
            }
            match self.outcome.get() {
                Some(SendOutcome::Unsent(kind)) => return Err(kind.clone()),
                Some(_) => return Err(PublishErrorKind::NotSent(NotSent::Ended)),
                None => news.await,
            }
        }
    }

    /// The message has its place in the journal.
    pub(crate) fn posted(&self, enqueued: Enqueued) {
        // The position is dropped here, because the journal's reader gives it again with the message.
        let safe = enqueued.map(|posted| posted.map(|_position| ()).map_err(|error| error.kind));
        // A message is posted once, so this never finds a value.
        let _ = self.safe.set(safe.boxed().shared());
        self.news.notify_waiters();
    }

    /// One sender has its message back. When all have, the journal may forget it.
    fn take_back(&self) {
        let mut hand_back = self.hand_back();
        hand_back.taken_back += 1;
        let taken_back = hand_back.taken_back;
        if let Some(all) = hand_back.custody.take_if(|custody| custody.items() <= taken_back) {
            all.taken_back();
        }
    }

    fn hand_back(&self) -> MutexGuard<'_, HandBack> {
        self.hand_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutcomeSender {
    /// A reply to a message that no sender waits for.
    pub(crate) fn to_nobody(message: &Prepared) -> Self {
        Pending::new(Arc::clone(&message.id), message.address(), Instant::now(), Kept::InJournal).1
    }

    /// The message has a span, which ends with its outcome.
    pub(crate) fn follow(&mut self, span: Option<Box<dyn PublishSpan>>) {
        if span.is_some() {
            self.attached.get_or_insert_default().span = span;
        }
    }

    /// The message keeps its routing key busy until its outcome is known.
    pub(crate) fn keep_busy(&mut self, unconfirmed: Option<Unconfirmed>) {
        if unconfirmed.is_some() {
            self.attached.get_or_insert_default().unconfirmed = unconfirmed;
        }
    }

    /// Whether the message keeps its routing key busy.
    pub(crate) fn keeps_busy(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.unconfirmed.is_some())
    }

    /// The message that this reply settles, for one more sender.
    pub(crate) fn pending(&self) -> Arc<Pending> {
        Arc::clone(&self.pending)
    }

    pub(crate) fn is_of(&self, pending: &Arc<Pending>) -> bool {
        Arc::ptr_eq(&self.pending, pending)
    }

    /// Until when its sender waits.
    pub(crate) fn deadline(&self) -> Instant {
        self.pending.deadline
    }

    /// Whether no sender waits for the outcome any more.
    pub(crate) fn unheard(&self) -> bool {
        Arc::strong_count(&self.pending) == 1
    }

    /// The message is about to be sent. False if its sender has withdrawn it, and has been told so: it must not be
    /// sent.
    pub(crate) fn depart(&self) -> bool {
        self.pending.travel.depart()
    }

    pub(crate) fn withdrawn(&self) -> bool {
        self.pending.travel.withdrawn()
    }

    /// The publisher is closed, for the reason `why`. If the message has been sent, it may have arrived.
    pub(crate) fn close(mut self, why: NotSent) {
        if self.pending.kept == Kept::InJournal {
            // Dropping the reply says `Closed`, and the journal keeps the message.
            return;
        }
        self.end_span(PublishResult::Failed);
        if self.pending.travel.withdraw() {
            self.tell(SendOutcome::Unsent(PublishErrorKind::NotSent(why)));
        }
        // Else dropping the reply says `Closed`.
    }

    pub(crate) fn settle(mut self, outcome: SendOutcome) {
        self.tell(outcome);
    }

    /// The broker did not take the message. The journal keeps it until its senders have it back.
    pub(crate) fn settle_in_custody(mut self, outcome: SendOutcome, custody: Box<dyn InCustody>) {
        self.pending.hand_back().custody = Some(custody);
        self.tell(outcome);
    }

    fn end_span(&mut self, result: PublishResult) {
        if let Some(span) = self.attached.as_mut().and_then(|attached| attached.span.take()) {
            let withdrawn = self.pending.travel.withdrawn();
            trace::settle(Some(span), if withdrawn { PublishResult::Withdrawn } else { result });
        }
    }

    fn tell(&mut self, outcome: SendOutcome) {
        // Before its senders hear of it, so that they can rely on it: what they send next finds its key free.
        self.end_span(outcome.result());
        self.attached = None;
        if self.pending.outcome.set(outcome).is_ok() {
            self.pending.news.notify_waiters();
        }
    }
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        if self.pending.safe.get().is_some() {
            // The journal has the message and publishes it, and its sender has gone: the span ends without an outcome.
            if let Some(attached) = &mut self.attached {
                attached.span = None;
            }
        }
        self.tell(SendOutcome::Closed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    fn pending() -> (Arc<Pending>, OutcomeSender) {
        let to = Address { exchange: "x".into(), routing_key: "k".into() };
        Pending::new("m".into(), to, Instant::now() + Duration::from_secs(1), Kept::No)
    }

    #[tokio::test]
    async fn all_who_wait_hear_of_it_and_those_who_come_later_too() {
        let (pending, reply) = pending();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pending.confirmed())).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        reply.settle(SendOutcome::Nacked);
        for one in waiting {
            assert!(matches!(one.await, Err(PublishErrorKind::Nacked)));
        }
        assert!(matches!(pending.confirmed().await, Err(PublishErrorKind::Nacked)));
    }

    #[tokio::test]
    async fn a_reply_that_is_dropped_says_closed_and_one_that_was_used_has_said_its_last_word() {
        let (first, reply) = pending();
        drop(reply);
        assert!(matches!(first.confirmed().await, Err(PublishErrorKind::Closed)));
        let (second, reply) = pending();
        reply.settle(SendOutcome::Confirmed);
        assert!(second.confirmed().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_nobody_knows_of_what_was_sent() {
        let (pending, reply) = pending();
        assert!(reply.depart());
        assert!(matches!(pending.confirmed().await, Err(PublishErrorKind::Unknown)));
        assert!(!reply.unheard());
        drop(pending);
        assert!(reply.unheard());
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_what_was_not_sent_is_withdrawn_unless_it_is_kept() {
        let (withdrawn, reply) = pending();
        let told = withdrawn.confirmed().await;
        assert!(matches!(told, Err(PublishErrorKind::NotSent(NotSent::Deadline))));
        assert!(!reply.depart(), "a withdrawn message must not be sent");
        let to = Address { exchange: "x".into(), routing_key: "k".into() };
        let (kept, reply) = Pending::new("m".into(), to, Instant::now(), Kept::InMemory);
        assert!(matches!(kept.confirmed().await, Err(PublishErrorKind::Waiting)));
        assert!(reply.depart());
        assert!(matches!(kept.confirmed().await, Err(PublishErrorKind::Unknown)));
    }

    #[tokio::test]
    async fn at_the_end_of_its_publisher_what_was_not_sent_is_told_from_what_may_have_arrived() {
        let ((unsent, first), (sent, second)) = (pending(), pending());
        assert!(second.depart());
        first.close(NotSent::Ended);
        second.close(NotSent::Ended);
        assert!(matches!(unsent.confirmed().await, Err(PublishErrorKind::NotSent(NotSent::Ended))));
        assert!(matches!(sent.confirmed().await, Err(PublishErrorKind::Closed)));
    }
}
