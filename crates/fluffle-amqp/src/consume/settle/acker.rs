//! Writes the acks of one channel.

use std::{future::ready, sync::Arc, time::Instant};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::timeout;

use crate::{
    consume::settle::{
        acks::{Ack, Acks, MOST_HELD_BACK},
        commands::Commands,
        reader::Reader,
        settling::Settling,
    },
    link::bounded::OPERATION_TIMEOUT,
};

/// How many finished deliveries, and how many bytes of them, may wait for a common ack. Fewer may wait if the prefetch
/// or the byte budget is small; see [`PART`].
const MOST_WAITING: usize = 64;
const MOST_BYTES: u64 = 256 * 1024;

/// At most one in `PART` of the deliveries that may be unacked waits for a common ack, and the same share of the bytes
/// that may be in hand. If all of them waited, the broker would have nothing to deliver.
const PART: usize = 4;

/// Decides when to ack, and writes the acks of one channel.
pub(crate) struct Acker<C> {
    commands: C,
    /// The deliveries to ack. `None` stands for one that is acked on arrival: nothing waits for its ack.
    acks: Acks<Option<Settling>>,
    writing: FuturesUnordered<LocalBoxFuture<'static, Vec<Option<Settling>>>>,
    most_bytes: u64,
    /// Of a stream: an ack only asks for more messages there. Acks are written in order and wait for the store of
    /// offsets, so that what a crash repeats is bounded.
    reader: Option<Arc<Reader>>,
}

impl<C: Commands> Acker<C> {
    /// An acker for a consumer whose handlers may have `bytes` in hand.
    pub(crate) fn new(commands: C, bytes: u64, reader: Option<Arc<Reader>>) -> Self {
        let most_bytes = MOST_BYTES.min(bytes / PART as u64);
        Self { commands, acks: Acks::default(), writing: FuturesUnordered::new(), most_bytes, reader }
    }

    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.acks.delivered(tag);
    }

    /// Only the ack of a delivery is left to do.
    pub(crate) fn finish(&mut self, settling: Settling) {
        let (tag, bytes) = (settling.attempt().tag, settling.attempt().body.len() as u64);
        if let Some(position) = &settling.attempt().position {
            // From here on the store's record counts, and not the ack.
            position.progress.done(position.offset);
            settling.acked();
            return self.acks.finished(tag, 0, None, Instant::now());
        }
        self.acks.finished(tag, bytes, Some(settling), Instant::now());
    }

    /// A delivery is acked on arrival. If the channel is lost before the ack is written, nothing happens here: the
    /// message is dropped when the broker delivers it again.
    pub(crate) fn finish_on_arrival(&mut self, tag: u64) {
        self.acks.finished(tag, 0, None, Instant::now());
    }

    /// A delivery was settled by a command other than an ack, and the command is written.
    pub(crate) fn settled_otherwise(&mut self, tag: u64) {
        self.acks.settled_otherwise(tag);
    }

    /// Acks if enough finished deliveries wait, given that `prefetch` deliveries may be unacked.
    pub(crate) fn relieve(&mut self, prefetch: u16) {
        if self.is_held() {
            return;
        }
        let most = (usize::from(prefetch) / PART).clamp(1, MOST_WAITING);
        if self.is_much(most) {
            self.ack_front();
            if self.is_much(most) && self.reader.is_none() {
                // The rest waits behind an unfinished delivery.
                self.ack_singly(Instant::now());
            }
        }
    }

    fn is_much(&self, most: usize) -> bool {
        self.acks.waiting() >= most || self.acks.bytes() > self.most_bytes
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.acks.waiting() > 0
    }

    /// Whether a finished delivery has no unfinished one before it, and its ack may be written.
    pub(crate) fn has_front(&self) -> bool {
        self.acks.has_prefix() && !self.is_held()
    }

    /// Whether acks wait for the store of offsets.
    pub(crate) fn is_held(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.is_behind())
    }

    /// Writes one ack for all finished deliveries that have no unfinished one before them.
    pub(crate) fn ack_front(&mut self) {
        if let Some(ack) = self.acks.prefix() {
            self.write(ack);
        }
    }

    /// Acks the deliveries that have been held back for [`MOST_HELD_BACK`].
    pub(crate) fn ack_overdue(&mut self) {
        if self.has_front() {
            self.ack_front();
        }
        if self.reader.is_some() {
            return;
        }
        if let Some(until) = Instant::now().checked_sub(MOST_HELD_BACK) {
            self.ack_singly(until);
        }
    }

    /// Acks everything that is finished, and waits at most [`OPERATION_TIMEOUT`] for the acks to be written. An ack
    /// that is not written by then counts as lost.
    pub(crate) async fn ack_all(&mut self) {
        self.ack_front();
        if self.reader.is_none() {
            self.ack_singly(Instant::now());
        }
        let _ = timeout(OPERATION_TIMEOUT, self.writing.by_ref().for_each(|_written| ready(()))).await;
    }

    /// Waits until one of the acks on their way is written; `None` if there are none. Cancellation safe.
    pub(crate) async fn written(&mut self) -> Option<()> {
        let done = self.writing.next().await?;
        self.acks.reuse(done);
        Some(())
    }

    fn ack_singly(&mut self, until: Instant) {
        for ack in self.acks.singly(until) {
            self.write(ack);
        }
    }

    fn write(&self, ack: Ack<Option<Settling>>) {
        let acking = self.commands.ack(ack.tag, ack.multiple);
        let mut writing: LocalBoxFuture<'static, _> = Box::pin(async move {
            let mut done = ack.done;
            match acking.await {
                Ok(()) => done.drain(..).flatten().for_each(Settling::acked),
                // Dropping a settling records that its ack was lost.
                Err(_) => done.clear(),
            }
            done
        });
        // Polled once here, because the first poll puts the ack in line on the channel. If an ack with `multiple`
        // overtook an earlier ack, it would cover that ack's tag a second time.
        if writing.as_mut().now_or_never().is_none() {
            self.writing.push(writing);
        }
    }
}
