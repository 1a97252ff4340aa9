//! One attempt at a delivery.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use fluffle_wire::{
    Incoming, Read,
    headers::{Attempt as AttemptNumber, TraceContext},
};
use futures_util::task::AtomicWaker;
use tokio::sync::SetOnce;

use crate::{
    base::trace::Carrier,
    consume::{
        attempt::{
            contents::{Contents, HandedOut},
            permits::Permits,
        },
        message::{received::Received, settled::Settled},
    },
};

/// A message and one attempt at it. The handler's [`Delivery`](crate::Delivery) and the code that settles it share it.
/// Dereferences to the message.
#[derive(Debug)]
pub(crate) struct Attempt {
    message: Received,
    /// With effectively once: the key under which the store remembers the message once it is handled.
    pub(crate) seen_key: Option<Arc<str>>,
    pub(crate) permits: Permits,
    /// This process has tried the same delivery before.
    pub(crate) is_again: bool,
    started: OnceLock<Instant>,
    /// Listeners have been told of its start. If there are none, nobody reads when it is answered.
    is_told: AtomicBool,
    /// Nanoseconds from its start to its answer, plus 1; 0 until then. An `OnceLock` would be three times the size.
    answered_after: AtomicU64,
    given_up: AtomicBool,
    waker: AtomicWaker,
    settled: SetOnce<Settled>,
    contents: OnceLock<Box<Contents>>,
    /// The span of this attempt, if a middleware has made one.
    span: OnceLock<Box<TraceContext>>,
    /// The content type of the message in its wrapper, if it came in one that tells it.
    wrapperd_type: OnceLock<Box<str>>,
}

impl Attempt {
    pub(crate) fn new(message: Received) -> Self {
        Self {
            message,
            seen_key: None,
            permits: Permits::default(),
            is_again: false,
            started: OnceLock::new(),
            is_told: AtomicBool::new(false),
            answered_after: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            settled: SetOnce::new(),
            contents: OnceLock::new(),
            span: OnceLock::new(),
            wrapperd_type: OnceLock::new(),
        }
    }

    /// Ends this attempt as retried, and returns the next attempt at the same delivery. No message is sent to the
    /// broker.
    pub(crate) fn again(&self, number: AttemptNumber) -> Self {
        let _ = self.settled.set(Settled::Retried);
        Self {
            seen_key: self.seen_key.clone(),
            permits: self.permits.pass_on(),
            is_again: true,
            ..Self::new(Received {
                attempt_number: number,
                attempt_before: self.span.get().cloned(),
                ..self.message.clone()
            })
        }
    }

    /// Notes the span of this attempt, or of item `index` of it.
    pub(crate) fn note_span(&self, index: Option<usize>, span: &TraceContext) {
        match (index, self.contents()) {
            (Some(index), Some(contents)) => contents.note_span(index, span),
            // If several middlewares make spans, the first one counts.
            _ => {
                let _ = self.span.set(Box::new(span.clone()));
            }
        }
    }

    /// The span of this attempt, if it has one.
    pub(crate) fn span(&self) -> Option<&TraceContext> {
        self.span.get().map(|span| &**span)
    }

    /// Notes what was learned by reading the message.
    pub(crate) fn note_read<T>(&self, read: Read<T>) -> T {
        let Read { message, bytes, trace, content_type } = read;
        self.unpacked(bytes);
        // Another attempt in this process reads the same again.
        if let Some(trace) = trace {
            let _ = self.message.wrapperd_trace.set(Box::new(trace));
        }
        if let Some(content_type) = content_type {
            let _ = self.wrapperd_type.set(content_type.into());
        }
        message
    }

    /// The content type of the message itself, in whatever wrapper it came.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.wrapperd_type.get().map(|label| &**label).or_else(|| self.wire().content_type)
    }

    /// A handler takes the message.
    pub(crate) fn start(&self) {
        self.started.get_or_init(Instant::now);
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.get().is_some()
    }

    /// When it was started, the first time that this is called. For listeners alone.
    pub(crate) fn tell_start(&self) -> Option<Instant> {
        let started = *self.started.get()?;
        let is_first = !self.is_told.swap(true, Ordering::Relaxed);
        is_first.then_some(started)
    }

    /// It has its answer. Only the first call counts, and it reads the clock only if listeners know of the start.
    pub(crate) fn answer(&self) {
        if self.is_told.load(Ordering::Relaxed) {
            let after = self.started.get().map_or(Duration::ZERO, Instant::elapsed);
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
            // If it has an answer already, that one stands.
            let _ = self.answered_after.compare_exchange(0, after, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// When it was started and how long its answer took, if listeners know of the start.
    pub(crate) fn answered(&self) -> Option<(Instant, Duration)> {
        let after = self.answered_after.load(Ordering::Relaxed).checked_sub(1)?;
        Some((*self.started.get()?, Duration::from_nanos(after)))
    }

    /// How long a handler has had the message; `None` if none has begun it. Zero for a batch whose items go to handlers
    /// one by one, because each item has its own time limit.
    pub(crate) fn busy(&self) -> Option<Duration> {
        let busy = self.started.get()?.elapsed();
        Some(if self.handed_out().is_some() { Duration::ZERO } else { busy })
    }

    /// Sets what is in the batch, once it is opened.
    pub(crate) fn open(&self, contents: Contents) -> &Contents {
        self.contents.get_or_init(|| Box::new(contents))
    }

    /// What is in the batch. `None` for a message by itself, and for a batch that is not opened yet.
    pub(crate) fn contents(&self) -> Option<&Contents> {
        self.contents.get().map(|contents| &**contents)
    }

    /// The labels of item `index` of the batch.
    pub(crate) fn label_of_item(&self, index: usize) -> Incoming<'_> {
        self.contents().map_or_else(|| self.wire(), |contents| contents.label(self, index))
    }

    /// How many messages the delivery has: one, or the items of the batch.
    pub(crate) fn messages(&self) -> usize {
        self.contents().map_or(1, |contents| contents.items.len())
    }

    fn handed_out(&self) -> Option<&Weak<dyn HandedOut>> {
        self.contents()?.handed_out.get()
    }

    /// Gives up items that a handler has had for longer than `limit`.
    pub(crate) fn expire_items(&self, limit: Duration) {
        if let Some(items) = self.handed_out().and_then(Weak::upgrade) {
            items.expire(limit);
        }
    }

    /// Counts the bytes that the body unpacked to against the byte budget. A body that was not compressed is counted
    /// already.
    pub(crate) fn unpacked(&self, bytes: usize) {
        if bytes != self.body.len() {
            self.permits.take_more_bytes(bytes as u64);
        }
    }

    /// Records what became of the delivery; only the first call counts.
    ///
    /// Gives back all permits, except if the attempt is [`Lost`](Settled::Lost) and was not given up: its handler still
    /// works on the message, so the permits are given back with the last reference to the attempt.
    pub(crate) fn settle_as(&self, settled: Settled) {
        let _ = self.settled.set(settled);
        if settled != Settled::Lost || self.given_up.load(Ordering::Acquire) {
            self.permits.give_back();
        }
    }

    /// What became of the delivery, as soon as that is known. Cancellation safe.
    pub(crate) async fn settled(&self) -> Settled {
        *self.settled.wait().await
    }

    /// Gives the attempt up: its handler has had it for too long, and it is settled without the handler's answer. The
    /// handler's place under the concurrency limit becomes free.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// [Gives it up](Self::give_up) after its channel was lost: nobody settles it, so the permits are given back now.
    pub(crate) fn abandon(&self) {
        self.give_up();
        self.permits.give_back();
    }

    /// Whether the attempt has been given up. If not, the task is woken when it is.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.given_up.load(Ordering::Acquire)
    }
}

impl Carrier for Attempt {
    fn trace(&self) -> Option<TraceContext> {
        self.message.trace()
    }
}

impl Deref for Attempt {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.message
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::consume::message::received::tests::received_with;

    /// Attempt `number` at a delivery of four bytes, for the tests of other modules too.
    pub(crate) fn attempt(number: u32) -> Attempt {
        Attempt::new(crate::consume::message::received::tests::received(number))
    }

    /// An attempt at a delivery with these properties, changed by `change`.
    pub(crate) fn attempt_at(properties: lapin::BasicProperties, change: impl FnOnce(&mut Received)) -> Attempt {
        let mut received = received_with(1, properties);
        change(&mut received);
        Attempt::new(received)
    }

    #[tokio::test]
    async fn lost_with_its_handler_at_work_it_keeps_what_it_borrowed_until_it_is_given_up() {
        let lent = Arc::new(());
        let lost = attempt(1);
        lost.permits.lend(Box::new(Arc::clone(&lent)));
        lost.settle_as(Settled::Lost);
        assert_eq!((Arc::strong_count(&lent), lost.settled().await), (2, Settled::Lost));
        lost.abandon();
        assert_eq!(Arc::strong_count(&lent), 1);
    }

    #[tokio::test]
    async fn settled_it_gives_back_what_it_borrowed_and_is_not_settled_twice() {
        let lent = Arc::new(());
        let done = attempt(1);
        done.permits.lend(Box::new(Arc::clone(&lent)));
        done.settle_as(Settled::Acked);
        done.settle_as(Settled::Lost);
        assert_eq!((Arc::strong_count(&lent), done.settled().await), (1, Settled::Acked));
    }
}
