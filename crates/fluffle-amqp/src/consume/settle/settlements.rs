//! The settlements of one channel that are being carried out, and the acks that follow them.

use std::sync::Arc;

use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::consume::{
    attempt::attempt::Attempt,
    decide::verdict::Verdict,
    settle::{
        acker::Acker,
        acks::MOST_HELD_BACK,
        commands::Commands,
        reader::{self, Reader},
        settler::{Remaining, Settler},
    },
};

/// The settlements of one channel.
pub(crate) struct Settlements<C> {
    settler: Arc<Settler<C>>,
    acker: Acker<C>,
    running: FuturesUnordered<LocalBoxFuture<'static, Remaining>>,
    /// Ticks when it is time to look for acks that were held back for too long.
    held_back: Interval,
    reader: Option<Arc<Reader>>,
}

impl<C> Settlements<C> {
    /// How many settlements are being carried out. One that only waits for its ack does not count.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}

impl<C: Commands> Settlements<C> {
    /// The settlements of a consumer whose handlers may have `most_bytes` in hand. `reader`: if it reads a stream.
    pub(crate) fn new(settler: Settler<C>, most_bytes: u64, reader: Option<Arc<Reader>>) -> Self {
        let mut held_back = interval(MOST_HELD_BACK / 2);
        held_back.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let acker = Acker::new(settler.commands.clone(), most_bytes, reader.clone());
        Self { settler: Arc::new(settler), acker, running: FuturesUnordered::new(), held_back, reader }
    }

    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.acker.delivered(tag);
    }

    /// Acks a delivery before anybody handles it.
    pub(crate) fn ack_on_arrival(&mut self, tag: u64) {
        self.acker.finish_on_arrival(tag);
    }

    /// Settles a delivery that is not acked yet.
    pub(crate) fn settle(&mut self, attempt: Arc<Attempt>, verdict: Verdict) {
        let mut settling = self.settler.begin(attempt);
        if settling.at_once(&verdict) {
            return self.acker.finish(settling);
        }
        self.settler.mark(&mut settling, &verdict);
        let settler = Arc::clone(&self.settler);
        self.running.push(Box::pin(async move { settler.settle(settling, verdict).await }));
    }

    /// Settles a delivery that was acked on arrival: counts it, and sends the answer, if there is one.
    pub(crate) fn conclude(&self, attempt: &Arc<Attempt>, verdict: Verdict) {
        if let Some(telling) = self.settler.conclude(attempt, verdict) {
            self.running.push(Box::pin(async move {
                telling.await;
                Remaining::Nothing
            }));
        }
    }

    /// With effectively once: remembers a handled message whose delivery can no longer be acked. `items` names the
    /// handled items of a batch; `None` means the whole delivery.
    pub(crate) fn remember(&self, attempt: Arc<Attempt>, items: Option<Vec<usize>>) {
        if attempt.seen_key.is_none() {
            return;
        }
        let settler = Arc::clone(&self.settler);
        // A separate task, because remembering must continue even if this channel is lost too.
        let marking = actix::spawn(async move {
            match items {
                Some(items) => settler.remember_items(&attempt, items.into_iter()).await,
                None => settler.remember(&attempt).await,
            }
        });
        self.running.push(Box::pin(async move {
            let _ = marking.await;
            Remaining::Nothing
        }));
    }

    /// Drives the settlements that are being carried out, and writes overdue acks. Returns after each step; waits for
    /// ever if there is nothing to do. Cancellation safe.
    pub(crate) async fn progress(&mut self) {
        let is_held = self.acker.is_held();
        tokio::select! {
            biased;
            Some(()) = self.acker.written() => {}
            () = reader::caught_up(self.reader.as_deref()), if is_held => {}
            Some(remaining) = self.running.next(), if !self.running.is_empty() => match remaining {
                Remaining::Ack(settling) => self.acker.finish(settling),
                Remaining::Settled(tag) => self.acker.settled_otherwise(tag),
                Remaining::Nothing => {}
            },
            _ = self.held_back.tick(), if self.acker.is_waiting() => self.acker.ack_overdue(),
            else => std::future::pending().await,
        }
    }

    /// Acks if enough finished deliveries wait, given that `prefetch` deliveries may be unacked.
    pub(crate) fn relieve(&mut self, prefetch: u16) {
        self.acker.relieve(prefetch);
    }

    /// Whether a finished delivery has no unfinished one before it, so that [`ack_front`](Self::ack_front) can ack it.
    pub(crate) fn has_front(&self) -> bool {
        self.acker.has_front()
    }

    /// Writes one ack for all finished deliveries that have no unfinished one before them. Call it no sooner than
    /// [`LEAST_APART`](crate::consume::settle::acks::LEAST_APART) after the last call.
    pub(crate) fn ack_front(&mut self) {
        self.acker.ack_front();
    }

    /// Acks everything that is finished, and waits for the acks to be written, for at most the time limit of an
    /// operation.
    pub(crate) async fn ack_all(&mut self) {
        self.acker.ack_all().await;
    }
}
