//! The open batches of a publisher. They belong to its send queue, and so outlive every actor, channel and connection.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use fluffle_wire::{BatchBuilder, EncodeErrorKind, Wire};
use futures_util::poll;
use tokio::{sync::Notify, time::Instant};

use crate::publish::{
    batching::Batching,
    entry::Entry,
    error::PublishErrorKind,
    message::{Address, Prepared, new_id},
    outcome::{Kept, OutcomeSender, Pending},
    properties::{Labels, Properties},
    receipt::Claim,
    route::Route,
    send_queue::{OpenBatches, Reserved, SendQueue},
};

/// Most batches open at a time, each for a routing key of its own. If another one is to be opened, the oldest is sent.
const MOST_OPEN: usize = 32;

pub(crate) struct Batcher<T> {
    wire: Wire<T>,
    terms: Batching,
    exchange: Arc<str>,
    mandatory: bool,
    persistent: bool,
    kept: Kept,
    /// How long after a batch is due its confirm may take.
    deadline: Duration,
    open: Mutex<Open<T>>,
    /// Held while a batch is taken out, compressed and sent, so that batches are sent in the order in which they are
    /// taken out. Taken before `open`, which is free while a batch is compressed, so that others fill the next one.
    sending: Mutex<()>,
    /// Told when a batch is opened after [`OpenBatches::send_due`] found none open, because its caller then waits for
    /// this.
    opened: Notify,
    /// Told when another batch is opened: senders that wait for room may join it.
    others: Notify,
}

struct Open<T> {
    /// Oldest first, which is also the order in which they are due.
    batches: Vec<OpenBatch<T>>,
    closed: bool,
    /// Whether `send_due` found an open batch, or a batch was opened since. Then its caller wakes by the clock or is
    /// told already.
    watched: bool,
    /// Bytes in the batch that was sent last, because the next one is likely to be as large.
    last: usize,
}

struct OpenBatch<T> {
    routing_key: Arc<str>,
    builder: BatchBuilder<T>,
    reply: OutcomeSender,
    /// Reserved before the batch was opened, so that sending it waits for nothing.
    place: Reserved,
    due: Instant,
}

/// What became of a message that was to join an open batch. A [`Pending`] is that of a batch which is now to be sent.
enum Added {
    In(Claim),
    /// The message is in, and its batch is full.
    Last(Claim, Arc<Pending>),
    /// The message is not in, because its batch has no room for it.
    Full(Arc<Pending>),
    NoneOpen,
}

impl<T> Batcher<T> {
    pub(crate) fn new(route: &Route<T>, terms: Batching) -> Self {
        Self {
            wire: route.wire.clone(),
            terms,
            exchange: Arc::clone(&route.exchange),
            mandatory: route.is_mandatory(),
            persistent: route.persistent,
            kept: if route.journal.is_some() { Kept::InJournal } else { Kept::InMemory },
            deadline: route.deadline,
            open: Mutex::new(Open { batches: Vec::new(), closed: false, watched: false, last: 0 }),
            sending: Mutex::default(),
            opened: Notify::new(),
            others: Notify::new(),
        }
    }

    /// Puts `message` into the open batch of its key, if that has room. Waits for nothing.
    pub(crate) fn add(
        &self,
        send_queue: &SendQueue,
        message: &T,
        key: &str,
    ) -> Result<Option<Claim>, PublishErrorKind> {
        let added = self.open().add(message, key)?;
        match added {
            Added::In(claim) => Ok(Some(claim)),
            Added::Last(claim, batch) => {
                self.send_one(send_queue, &batch);
                Ok(Some(claim))
            }
            Added::Full(batch) => {
                self.send_one(send_queue, &batch);
                Ok(None)
            }
            Added::NoneOpen => Ok(None),
        }
    }

    /// Waits for room for another batch and opens it with `message`.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    pub(crate) async fn open_with(
        &self,
        send_queue: &SendQueue,
        message: &T,
        key: &str,
    ) -> Result<Claim, PublishErrorKind> {
        let first = self.first(message)?;
        let mut reserving = pin!(send_queue.reserve(self.room(&first)));
        if let Poll::Ready(place) = poll!(reserving.as_mut()) {
            return self.put_up(send_queue, place?, first, message, key);
        }
        // Open batches hold places: once sent, they give them back when they are confirmed.
        self.send_open(send_queue);
        loop {
            // Registered before the look, so that a batch which is opened in between is not missed.
            let others = self.others.notified();
            if let Some(claim) = self.add(send_queue, message, key)? {
                return Ok(claim);
            }
            tokio::select! {
                biased;
                place = &mut reserving => return self.put_up(send_queue, place?, first, message, key),
                () = others => {}
            }
        }
    }

    /// Opens another batch with `message`, if there is room for one now.
    pub(crate) fn try_open_with(
        &self,
        send_queue: &SendQueue,
        message: &T,
        key: &str,
    ) -> Result<Claim, PublishErrorKind> {
        let first = self.first(message)?;
        let place = match send_queue.try_reserve(self.room(&first)) {
            Err(PublishErrorKind::Full) => {
                self.send_open(send_queue);
                send_queue.try_reserve(self.room(&first))?
            }
            place => place?,
        };
        self.put_up(send_queue, place, first, message, key)
    }

    /// Sends a message that cannot share an envelope, after the messages accepted before it for the same key.
    pub(crate) fn send_alone(&self, send_queue: &SendQueue, place: Reserved, entry: Entry) {
        let sending = self.sending();
        let key = Arc::clone(&entry.message.routing_key);
        self.send_those(send_queue, &sending, |batch| batch.routing_key == key);
        send_queue.count(entry.items());
        send_queue.send(place, entry);
    }

    /// A batch with `message` in it. Made before anything is waited for, so that a message which cannot be encoded
    /// fails at once.
    fn first(&self, message: &T) -> Result<BatchBuilder<T>, PublishErrorKind> {
        let Batching { max_bytes, max_items, .. } = self.terms;
        let capacity = self.open().last;
        let mut builder = self.wire.batch().at_most(max_bytes, max_items).with_capacity(capacity);
        builder.push(message).map_err(PublishErrorKind::Encode)?;
        Ok(builder)
    }

    /// Most bytes that a batch which begins with `first` may come to.
    fn room(&self, first: &BatchBuilder<T>) -> usize {
        self.terms.max_bytes.max(first.bytes())
    }

    /// Opens a batch, or joins the one that another sender has opened for this key meanwhile.
    fn put_up(
        &self,
        send_queue: &SendQueue,
        place: Reserved,
        first: BatchBuilder<T>,
        message: &T,
        key: &str,
    ) -> Result<Claim, PublishErrorKind> {
        let id = new_id();
        loop {
            let mut open = self.open();
            if open.closed {
                return Err(send_queue.not_sent());
            }
            let to_send = match open.add(message, key)? {
                Added::In(claim) => return Ok(claim),
                Added::Last(claim, batch) => {
                    drop(open);
                    self.send_one(send_queue, &batch);
                    return Ok(claim);
                }
                Added::Full(batch) => batch,
                Added::NoneOpen => match open.batches.first() {
                    Some(oldest) if open.batches.len() >= MOST_OPEN => oldest.reply.pending(),
                    _ => {
                        let batch = self.batch(id, place, first, key);
                        let (claim, full) = (batch.claim_to_last(), batch.builder.is_full());
                        let pending = batch.reply.pending();
                        open.batches.push(batch);
                        if !std::mem::replace(&mut open.watched, true) {
                            self.opened.notify_one();
                        }
                        drop(open);
                        self.others.notify_waiters();
                        if full {
                            self.send_one(send_queue, &pending);
                        }
                        return Ok(claim);
                    }
                },
            };
            drop(open);
            self.send_one(send_queue, &to_send);
        }
    }

    fn batch(&self, id: Arc<str>, place: Reserved, builder: BatchBuilder<T>, key: &str) -> OpenBatch<T> {
        let due = Instant::now() + self.terms.linger;
        let routing_key: Arc<str> = key.into();
        let to = Address { exchange: Arc::clone(&self.exchange), routing_key: Arc::clone(&routing_key) };
        let (_, reply) = Pending::new(id, to, due + self.deadline, self.kept);
        OpenBatch { routing_key, builder, reply, place, due }
    }

    /// Sends the batch of `pending`, unless it has been sent.
    fn send_one(&self, send_queue: &SendQueue, pending: &Arc<Pending>) {
        let sending = self.sending();
        self.send_those(send_queue, &sending, |batch| batch.reply.is_of(pending));
    }

    fn send_those(
        &self,
        send_queue: &SendQueue,
        _in_order: &MutexGuard<'_, ()>,
        which: impl Fn(&OpenBatch<T>) -> bool,
    ) {
        loop {
            let batch = {
                let mut open = self.open();
                let Some(at) = open.batches.iter().position(&which) else { return };
                let batch = open.batches.remove(at);
                open.last = batch.builder.bytes();
                // Counted before the lock is released, so that each message is at any time either in an open batch or
                // in the books.
                send_queue.count_batch(batch.builder.len(), batch.due - self.terms.linger);
                batch
            };
            self.send(send_queue, batch);
        }
    }

    fn send(&self, send_queue: &SendQueue, batch: OpenBatch<T>) {
        let OpenBatch { routing_key, builder, reply, place, .. } = batch;
        let items = builder.len();
        match builder.seal() {
            Ok(encoded) => {
                let id = Arc::clone(&reply.pending().id);
                let properties = Properties::Labels(Labels::now(&encoded, self.persistent));
                let to = Address { exchange: Arc::clone(&self.exchange), routing_key };
                let message = Prepared::encoded(id, to, self.mandatory, properties, encoded);
                send_queue.send(place, Entry::new(message, reply, true));
            }
            Err(error) => send_queue.unsent(items, reply, PublishErrorKind::Encode(error)),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> OpenBatches for Batcher<T> {
    fn send_due(&self, send_queue: &SendQueue, now: Instant) -> Option<Instant> {
        let some_due = self.open().batches.first().is_some_and(|oldest| oldest.due <= now);
        if some_due {
            let sending = self.sending();
            self.send_those(send_queue, &sending, |batch| batch.due <= now);
        }
        let mut open = self.open();
        let next = open.batches.first().map(|oldest| oldest.due);
        open.watched = next.is_some();
        next
    }

    fn opened(&self) -> &Notify {
        &self.opened
    }

    fn send_open(&self, send_queue: &SendQueue) {
        // Batches that other senders open from now on are left, or this might never end.
        let opened_by_now = Instant::now() + self.terms.linger;
        let sending = self.sending();
        self.send_those(send_queue, &sending, |batch| batch.due <= opened_by_now);
    }

    fn close(&self, send_queue: &SendQueue) {
        self.open().closed = true;
        let sending = self.sending();
        self.send_those(send_queue, &sending, |_| true);
    }

    fn hold(&self, look: &mut dyn FnMut(usize)) {
        let open = self.open();
        look(open.batches.iter().map(|batch| batch.builder.len()).sum());
    }
}

impl<T> Open<T> {
    fn add(&mut self, message: &T, key: &str) -> Result<Added, PublishErrorKind> {
        let Some(batch) = self.batches.iter_mut().find(|batch| *batch.routing_key == *key) else {
            return Ok(Added::NoneOpen);
        };
        match batch.builder.push(message) {
            Ok(()) if batch.builder.is_full() => Ok(Added::Last(batch.claim_to_last(), batch.reply.pending())),
            Ok(()) => Ok(Added::In(batch.claim_to_last())),
            Err(error) if error.kind() == EncodeErrorKind::BatchFull => Ok(Added::Full(batch.reply.pending())),
            Err(error) => Err(PublishErrorKind::Encode(error)),
        }
    }
}

impl<T> OpenBatch<T> {
    fn claim_to_last(&self) -> Claim {
        let index = self.builder.len().saturating_sub(1);
        Claim::item(self.reply.pending(), u32::try_from(index).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use futures_util::future::join_all;

    use super::*;
    use crate::publish::send_queue::SendSettings;

    type Opening<'a> = Pin<Box<dyn Future<Output = Result<Claim, PublishErrorKind>> + 'a>>;

    fn batcher(terms: Batching, mailbox: usize) -> (Arc<Batcher<String>>, Arc<SendQueue>) {
        let batcher = Arc::new(Batcher::new(&Route::<String>::exchange("x"), terms));
        let send_queue = SendQueue::with(SendSettings {
            name: "test".to_owned(),
            mailbox,
            window: 10,
            confirm_limit: Duration::from_secs(1),
            bytes: 1 << 26,
            journal: None,
            batches: Some(Arc::clone(&batcher) as Arc<dyn OpenBatches>),
        });
        (batcher, send_queue)
    }

    fn in_open(batcher: &Batcher<String>) -> usize {
        let mut items = 0;
        batcher.hold(&mut |open| items = open);
        items
    }

    /// How many messages each envelope in the mailbox has.
    async fn sent(send_queue: &SendQueue) -> Vec<usize> {
        let mut inbox = send_queue.inbox().await;
        std::iter::from_fn(|| inbox.try_recv().ok()).map(|entry| entry.items()).collect()
    }

    #[tokio::test]
    async fn who_waits_for_room_joins_the_batch_that_another_could_open() {
        let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_secs(60)), 1);
        let place = send_queue.reserve(1).await.unwrap();
        let texts = ["a", "b", "c"].map(str::to_owned);
        let mut waiting: Vec<Opening<'_>> = Vec::new();
        for text in &texts {
            waiting.push(Box::pin(batcher.open_with(&send_queue, text, "k")));
        }
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        drop(place);
        let claims = tokio::time::timeout(Duration::from_secs(10), join_all(waiting))
            .await
            .expect("room for one is room for all");
        assert!(claims.into_iter().all(|claim| claim.is_ok()));
        assert_eq!(in_open(&batcher), 3);
        batcher.send_open(&send_queue);
        assert_eq!(sent(&send_queue).await, [3]);
    }

    #[tokio::test]
    async fn a_batch_that_waits_for_company_gives_its_place_to_who_waits_for_room() {
        let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_secs(60)), 1);
        batcher.open_with(&send_queue, &"a".to_owned(), "one").await.unwrap();
        let text = "b".to_owned();
        let mut waiting: Opening<'_> = Box::pin(batcher.open_with(&send_queue, &text, "two"));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(sent(&send_queue).await, [1]);
        let opened = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the mailbox was emptied");
        assert!(opened.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_sent_by_whoever_looks_and_the_rest_stays() {
        let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_millis(5)), 10);
        batcher.try_open_with(&send_queue, &"a".to_owned(), "one").unwrap();
        // The first caller is gone before the batch is due, and with it the time that it was told.
        assert!(batcher.send_due(&send_queue, Instant::now()).is_some());
        tokio::time::advance(Duration::from_millis(3)).await;
        batcher.try_open_with(&send_queue, &"b".to_owned(), "two").unwrap();
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(batcher.send_due(&send_queue, Instant::now()), Some(Instant::now() + Duration::from_millis(3)));
        assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], 1));
        let lingering = tokio::spawn({
            let send_queue = Arc::clone(&send_queue);
            async move { send_queue.linger().await }
        });
        tokio::time::advance(Duration::from_millis(3)).await;
        while in_open(&batcher) > 0 {
            tokio::task::yield_now().await;
        }
        batcher.try_open_with(&send_queue, &"c".to_owned(), "one").unwrap();
        tokio::time::sleep(Duration::from_millis(6)).await;
        assert_eq!(sent(&send_queue).await, [1, 1], "`linger` is told of the next batch");
        lingering.abort();
    }

    #[tokio::test]
    async fn what_is_closed_has_sent_all_it_had_and_takes_nothing_more() {
        let (batcher, send_queue) = batcher(Batching::default(), 10);
        batcher.try_open_with(&send_queue, &"a".to_owned(), "k").unwrap();
        let place = send_queue.reserve(1).await.unwrap();
        let first = batcher.first(&"late".to_owned()).unwrap();
        batcher.close(&send_queue);
        let late = batcher.put_up(&send_queue, place, first, &"late".to_owned(), "k");
        assert!(matches!(late, Err(PublishErrorKind::NotSent(_))));
        assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], 0));
    }

    #[tokio::test]
    async fn a_new_key_past_the_most_open_batches_sends_the_oldest() {
        let (batcher, send_queue) = batcher(Batching::default(), 1000);
        for key in 0..=MOST_OPEN {
            batcher.try_open_with(&send_queue, &"a".to_owned(), &key.to_string()).unwrap();
        }
        assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], MOST_OPEN));
        assert!(batcher.add(&send_queue, &"a".to_owned(), "0").unwrap().is_none(), "the oldest was sent");
        assert!(batcher.add(&send_queue, &"a".to_owned(), "1").unwrap().is_some());
    }
}
