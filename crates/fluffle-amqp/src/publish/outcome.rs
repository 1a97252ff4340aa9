//! How an accepted message ended, and how its senders hear of it.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use fluffle_store::{AppendErrorKind, Enqueued};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::clock::timeout_at,
    publish::{
        confirm::Returned,
        error::PublishErrorKind,
        journal::Custody,
        message::target,
        travel::{NotSent, Travel},
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
    /// It could not be put on its way after all.
    Unsent(PublishErrorKind),
    /// The publisher was shut down first.
    Closed,
}

/// Who has a message when its sender has waited for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nobody: what has not been sent by then will not be.
    No,
    /// Its publisher, until it is settled.
    InMemory,
    InJournal,
}

/// What the sender of a message looks at until it is settled, or the senders of all items of one envelope.
pub(crate) struct Pending {
    /// The id under which it travels; an item's is `<id>/<index>`.
    pub(crate) id: Arc<str>,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    deadline: Instant,
    kept: Kept,
    travel: Travel,
    /// When it has its place there: until it is safe.
    safe: OnceLock<Shared<BoxFuture<'static, Result<(), AppendErrorKind>>>>,
    outcome: OnceLock<SendOutcome>,
    /// Told of either.
    news: Notify,
    /// The message itself, if the broker did not take it and the journal has it.
    custody: Mutex<Option<Box<Custody>>>,
    /// How many have it back since.
    taken_back: AtomicUsize,
}

/// What whoever settles a message holds. Dropped unused, the message's end is [`SendOutcome::Closed`].
pub(crate) struct Reply(Arc<Pending>);

/// Where a message goes, as its sender is told.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
}

impl Pending {
    pub(crate) fn new(id: Arc<str>, to: Address, deadline: Instant, kept: Kept) -> (Arc<Self>, Reply) {
        let pending = Arc::new(Self {
            id,
            exchange: to.exchange,
            routing_key: to.routing_key,
            deadline,
            kept,
            travel: Travel::default(),
            safe: OnceLock::new(),
            outcome: OnceLock::new(),
            news: Notify::new(),
            custody: Mutex::default(),
            taken_back: AtomicUsize::new(0),
        });
        (Arc::clone(&pending), Reply(pending))
    }

    /// Where it goes, as errors and logs name it.
    pub(crate) fn target(&self) -> String {
        target(&self.exchange, &self.routing_key)
    }

    /// Waits for its end. Cancellation safe: it only looks.
    pub(crate) async fn outcome(&self) -> &SendOutcome {
        loop {
            // Made before the look: what is told in between is not missed.
            let news = self.news.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            news.await;
        }
    }

    /// Waits for the broker's confirm, up to the deadline; for one of the senders, who is told of it once.
    pub(crate) async fn confirmed(&self) -> Result<(), PublishErrorKind> {
        if let Some(SendOutcome::Confirmed | SendOutcome::Written) = self.outcome.get() {
            return Ok(());
        }
        let journaled = self.kept == Kept::InJournal;
        if journaled {
            // Past it the disk has not said so yet. When it does, the message is published.
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

    /// Its deadline has passed. From here on it is withdrawn, unless it has been sent or is kept.
    fn given_up(&self) -> PublishErrorKind {
        match self.kept {
            Kept::No if self.travel.withdraw() => PublishErrorKind::NotSent(NotSent::Deadline),
            Kept::InMemory if !self.travel.departed() => PublishErrorKind::Waiting,
            _ => PublishErrorKind::Unknown,
        }
    }

    /// Waits until the journal has it, if there is one.
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
        // Its position comes back with the journal's reader.
        let safe = enqueued.map(|posted| posted.map(|_position| ()).map_err(|error| error.kind));
        // The first time is the only one: a message is posted once.
        let _ = self.safe.set(safe.boxed().shared());
        self.news.notify_waiters();
    }

    /// One sender has his message back. When all have, it is the journal's no longer.
    fn take_back(&self) {
        let mut custody = self.custody.lock().unwrap_or_else(PoisonError::into_inner);
        let taken_back = self.taken_back.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(all) = custody.take_if(|custody| custody.items() <= taken_back) {
            all.taken_back();
        }
    }
}

impl Reply {
    /// One more look at what this settles.
    pub(crate) fn pending(&self) -> Arc<Pending> {
        Arc::clone(&self.0)
    }

    pub(crate) fn is_of(&self, pending: &Arc<Pending>) -> bool {
        Arc::ptr_eq(&self.0, pending)
    }

    /// Whether nobody waits for the outcome any more.
    pub(crate) fn unheard(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// It is about to be sent; false if its sender has withdrawn it, and has been told so.
    pub(crate) fn depart(&self) -> bool {
        self.0.travel.depart()
    }

    pub(crate) fn withdrawn(&self) -> bool {
        self.0.travel.withdrawn()
    }

    /// The publisher is closed, for this reason. What has been sent may have arrived.
    pub(crate) fn close(self, why: NotSent) {
        if self.0.kept != Kept::InJournal && self.0.travel.withdraw() {
            self.tell(SendOutcome::Unsent(PublishErrorKind::NotSent(why)));
        }
        // Else it is dropped, which says so.
    }

    pub(crate) fn settle(self, outcome: SendOutcome) {
        self.tell(outcome);
    }

    /// The broker did not take the message, which stays the journal's until its senders have it back.
    pub(crate) fn settle_in_custody(self, outcome: SendOutcome, custody: Custody) {
        *self.0.custody.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(custody));
        self.tell(outcome);
    }

    fn tell(&self, outcome: SendOutcome) {
        if self.0.outcome.set(outcome).is_ok() {
            self.0.news.notify_waiters();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.tell(SendOutcome::Closed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    fn pending() -> (Arc<Pending>, Reply) {
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
        assert!(!reply.depart(), "it must not be sent any more");
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
