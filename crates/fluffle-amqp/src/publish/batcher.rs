//! The open batches of a publisher, and when each is sent. They belong to its send queue, and so outlive every actor,
//! channel and connection.
//!
//! A batch is sent when it is full or due, and when somebody asks for all that is open. If batches form by themselves,
//! one is also sent as soon as nothing of its routing key is unconfirmed. A message for whose key neither a batch is
//! open nor anything unconfirmed joins none: it goes [alone](Batcher::goes_alone).

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use fluffle_wire::{BatchBuilder, EncodeErrorKind, Wire, headers::ItemTraces};
use futures_util::poll;
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::trace::PublishInfo,
    publish::{
        batching::Batching,
        entry::Entry,
        error::PublishErrorKind,
        message::{Address, Prepared, new_id},
        outcome::{Kept, OutcomeSender, Pending},
        properties::{Labels, Properties},
        receipt::Claim,
        route::{Key, Route},
        send_queue::{OpenBatches, Reserved, SendQueue},
        tracing::{self, Joining},
        unconfirmed::{Unconfirmed, UnconfirmedKeys},
    },
};

/// Most batches open at a time, each for a routing key of its own. If another one is to be opened, the oldest is sent.
const MOST_OPEN: usize = 32;

pub(crate) struct Batcher<T> {
    wire: Wire<T>,
    terms: Batching,
    exchange: Arc<str>,
    key_template: Option<Arc<str>>,
    key_varies: bool,
    mandatory: bool,
    persistent: bool,
    kept: Kept,
    /// How long after a batch is due its confirm may take.
    deadline: Duration,
    open: Mutex<Open<T>>,
    /// Held while a batch is taken out, compressed and sent, so that batches are sent in the order in which they are
    /// taken out. Taken before `open`, which is free while a batch is compressed, so that others fill the next one.
    sending: Mutex<()>,
    /// The keys for which messages gather, if batches form by themselves. Else a message gathers whatever its key.
    unconfirmed: Option<Arc<UnconfirmedKeys>>,
    /// Told when a batch is opened after [`OpenBatches::send_due`] found none open, and when an open batch waits for
    /// nothing any more, because its caller then waits for this.
    changed: Arc<Notify>,
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
    /// The traces of its messages, if they have any.
    traces: ItemTraces,
    /// The traces that its messages belong to, if a tracer has made others for them.
    causes: ItemTraces,
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
        let changed = Arc::new(Notify::new());
        Self {
            wire: route.wire.clone(),
            terms,
            exchange: Arc::clone(&route.exchange),
            key_template: route.key_template.clone(),
            key_varies: matches!(route.key, Key::By(_)),
            mandatory: route.is_mandatory(),
            persistent: route.persistent,
            kept: if route.journal.is_some() { Kept::InJournal } else { Kept::InMemory },
            deadline: route.deadline,
            open: Mutex::new(Open { batches: Vec::new(), closed: false, watched: false, last: 0 }),
            sending: Mutex::default(),
            unconfirmed: terms.adaptive.then(|| UnconfirmedKeys::new(Arc::clone(&changed))),
            changed,
            others: Notify::new(),
        }
    }

    /// Lets a message of this key travel by itself, if batches form by themselves, and nothing of its key is
    /// unconfirmed or gathers. The message keeps its key busy with what this gives.
    pub(crate) fn goes_alone(&self, key: &str) -> Option<Unconfirmed> {
        let unconfirmed = self.unconfirmed.as_ref()?;
        // Held, so that no batch of this key is opened in between.
        let open = self.open();
        if open.batches.iter().any(|batch| *batch.routing_key == *key) {
            return None;
        }
        unconfirmed.begin_first(key)
    }

    /// Puts a message into the open batch of its key, if that has room. Waits for nothing.
    pub(crate) fn add(
        &self,
        send_queue: &SendQueue,
        joining: &Joining<'_, T>,
    ) -> Result<Option<Claim>, PublishErrorKind> {
        let added = self.open().add(joining)?;
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

    /// Waits for room for another batch and opens it with this message.
    ///
    /// Cancellation safe: dropped before it returns, the message was not accepted.
    pub(crate) async fn open_with(
        &self,
        send_queue: &SendQueue,
        joining: &Joining<'_, T>,
    ) -> Result<Claim, PublishErrorKind> {
        let first = self.first(joining.message)?;
        let mut reserving = pin!(send_queue.reserve(self.room(&first)));
        if let Poll::Ready(place) = poll!(reserving.as_mut()) {
            return self.put_up(send_queue, place?, first, joining);
        }
        // Open batches hold places: once sent, they give them back when they are confirmed.
        self.send_open(send_queue);
        loop {
            // Registered before the look, so that a batch which is opened in between is not missed.
            let others = self.others.notified();
            if let Some(claim) = self.add(send_queue, joining)? {
                return Ok(claim);
            }
            tokio::select! {
                biased;
                place = &mut reserving => return self.put_up(send_queue, place?, first, joining),
                () = others => {}
            }
        }
    }

    /// Opens another batch with this message, if there is room for one now.
    pub(crate) fn try_open_with(
        &self,
        send_queue: &SendQueue,
        joining: &Joining<'_, T>,
    ) -> Result<Claim, PublishErrorKind> {
        let first = self.first(joining.message)?;
        let place = match send_queue.try_reserve(self.room(&first)) {
            Err(PublishErrorKind::Full) => {
                self.send_open(send_queue);
                send_queue.try_reserve(self.room(&first))?
            }
            place => place?,
        };
        self.put_up(send_queue, place, first, joining)
    }

    /// Sends a message that does not share an envelope, after the messages accepted before it for the same key.
    pub(crate) fn send_alone(&self, send_queue: &SendQueue, place: Reserved, mut entry: Entry) {
        if entry.reply.keeps_busy() {
            // Nothing of its key was unconfirmed when it was let go alone. What has gathered since waits for it.
            send_queue.count(entry.items());
            return send_queue.send(place, entry);
        }
        let sending = self.sending();
        let key = Arc::clone(&entry.message.routing_key);
        self.send_those(send_queue, &sending, |batch| batch.routing_key == key);
        entry.reply.keep_busy(self.begin(&key));
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
        joining: &Joining<'_, T>,
    ) -> Result<Claim, PublishErrorKind> {
        let id = new_id();
        loop {
            let mut open = self.open();
            if open.closed {
                return Err(send_queue.not_sent());
            }
            let to_send = match open.add(joining)? {
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
                        let batch = self.batch(id, place, first, joining);
                        // Everything of its key may have been confirmed while this waited for its place.
                        let full = batch.builder.is_full() || !self.gathers(&batch.routing_key);
                        let claim = batch.claim_to_last();
                        let pending = batch.reply.pending();
                        open.batches.push(batch);
                        if !std::mem::replace(&mut open.watched, true) {
                            self.changed.notify_one();
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

    fn batch(&self, id: Arc<str>, place: Reserved, builder: BatchBuilder<T>, joining: &Joining<'_, T>) -> OpenBatch<T> {
        let due = Instant::now() + self.terms.linger;
        let routing_key: Arc<str> = joining.key.into();
        let to = Address { exchange: Arc::clone(&self.exchange), routing_key: Arc::clone(&routing_key) };
        let (_, reply) = Pending::new(id, to, due + self.deadline, self.kept);
        let mut batch = OpenBatch {
            routing_key,
            builder,
            traces: ItemTraces::default(),
            causes: ItemTraces::default(),
            reply,
            place,
            due,
        };
        batch.note_last(joining);
        batch
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
                let mut batch = open.batches.remove(at);
                batch.reply.keep_busy(self.begin(&batch.routing_key));
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
        let OpenBatch { routing_key, builder, traces, causes, mut reply, place, .. } = batch;
        let items = builder.len();
        let as_message = self.terms.adaptive && items == 1;
        match if as_message { builder.seal_compact() } else { builder.seal() } {
            Ok(encoded) => {
                let pending = reply.pending();
                // The id that its sender was told.
                let id = if as_message { format!("{}/0", pending.id).into() } else { Arc::clone(&pending.id) };
                let labels = Labels::now(&encoded, self.persistent);
                let properties =
                    if traces.is_empty() && encoded.item_types.is_none() && send_queue.tracer.get().is_none() {
                        Properties::Labels(labels)
                    } else {
                        let info = PublishInfo {
                            message_id: &id,
                            exchange: &self.exchange,
                            routing_key: &routing_key,
                            key_template: self.key_template.as_deref(),
                            key_varies: self.key_varies,
                            correlation_id: None,
                            batch_len: (!as_message).then_some(items),
                            created_by: None,
                            cause: causes.common(items).or(traces.common(items)),
                        };
                        let (properties, span) = tracing::batch(send_queue, labels, &info, &traces, &encoded);
                        reply.follow(span);
                        properties
                    };
                let to = Address { exchange: Arc::clone(&self.exchange), routing_key };
                let message = Prepared::encoded(id, to, self.mandatory, properties, encoded);
                send_queue.send(place, Entry::new(message, reply, true));
            }
            Err(error) => send_queue.unsent(items, reply, PublishErrorKind::Encode(error)),
        }
    }

    /// Something of this key is about to be sent.
    fn begin(&self, key: &Arc<str>) -> Option<Unconfirmed> {
        self.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.begin(key))
    }

    /// Whether messages of this key gather now. If batches form by themselves, `changed` is told when they need not
    /// any more.
    fn gathers(&self, key: &str) -> bool {
        self.unconfirmed.as_ref().is_none_or(|unconfirmed| unconfirmed.gather(key))
    }

    /// Whether a batch need not wait for anything any more.
    fn leaves(&self, batch: &OpenBatch<T>, now: Instant) -> bool {
        batch.due <= now || self.unconfirmed.as_ref().is_some_and(|unconfirmed| !unconfirmed.has(&batch.routing_key))
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
        let some_leave = self.open().batches.iter().any(|batch| self.leaves(batch, now));
        if some_leave {
            let sending = self.sending();
            self.send_those(send_queue, &sending, |batch| self.leaves(batch, now));
        }
        let mut open = self.open();
        let next = open.batches.first().map(|oldest| oldest.due);
        open.watched = next.is_some();
        next
    }

    fn changed(&self) -> &Notify {
        &self.changed
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
    fn add(&mut self, joining: &Joining<'_, T>) -> Result<Added, PublishErrorKind> {
        let Some(batch) = self.batches.iter_mut().find(|batch| *batch.routing_key == *joining.key) else {
            return Ok(Added::NoneOpen);
        };
        let pushed = batch.builder.push(joining.message);
        if pushed.is_ok() {
            batch.note_last(joining);
        }
        match pushed {
            Ok(()) if batch.builder.is_full() => Ok(Added::Last(batch.claim_to_last(), batch.reply.pending())),
            Ok(()) => Ok(Added::In(batch.claim_to_last())),
            Err(error) if error.kind() == EncodeErrorKind::BatchFull => Ok(Added::Full(batch.reply.pending())),
            Err(error) => Err(PublishErrorKind::Encode(error)),
        }
    }
}

impl<T> OpenBatch<T> {
    /// The last message is this one.
    fn note_last(&mut self, joined: &Joining<'_, T>) {
        let index = self.builder.len().saturating_sub(1);
        for (traces, trace) in [(&mut self.traces, joined.trace), (&mut self.causes, joined.cause)] {
            if trace.is_some() {
                traces.push(index, trace);
            }
        }
    }

    fn claim_to_last(&self) -> Claim {
        let index = self.builder.len().saturating_sub(1);
        Claim::item(self.reply.pending(), u32::try_from(index).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests;
