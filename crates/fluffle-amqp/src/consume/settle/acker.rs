//! Writes the acks of one channel.

use std::{future::ready, time::Instant};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::timeout;

use crate::{
    consume::settle::{
        acks::{Ack, Acks, MOST_HELD_BACK},
        commands::Commands,
        settling::Settling,
    },
    link::bounded::OPERATION_TIMEOUT,
};

/// The most finished deliveries, and bytes of them, that wait for a common ack; fewer if that is much of what may be in
/// hand.
const MOST_WAITING: usize = 64;
const MOST_BYTES: u64 = 256 * 1024;

/// A quarter of what may be unacked may wait for a common ack. If all of it waited, the broker would have nothing to
/// deliver.
const PART: usize = 4;

pub(crate) struct Acker<C> {
    commands: C,
    /// A delivery that was acked on arrival has nobody to tell.
    acks: Acks<Option<Settling>>,
    writing: FuturesUnordered<LocalBoxFuture<'static, Vec<Option<Settling>>>>,
    most_bytes: u64,
}

impl<C: Commands> Acker<C> {
    /// For handlers that may have `bytes` in hand.
    pub(crate) fn new(commands: C, bytes: u64) -> Self {
        let most_bytes = MOST_BYTES.min(bytes / PART as u64);
        Self { commands, acks: Acks::default(), writing: FuturesUnordered::new(), most_bytes }
    }

    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.acks.delivered(tag);
    }

    /// All is done for a delivery but its ack.
    pub(crate) fn finish(&mut self, settling: Settling) {
        let (tag, bytes) = (settling.attempt().tag, settling.attempt().body.len() as u64);
        self.acks.finished(tag, bytes, Some(settling), Instant::now());
    }

    /// A delivery is acked on arrival. If its channel is lost first, nothing is done about it: the message is dropped
    /// when it comes again.
    pub(crate) fn finish_on_arrival(&mut self, tag: u64) {
        self.acks.finished(tag, 0, None, Instant::now());
    }

    /// A delivery was settled by a command of its own, which is written.
    pub(crate) fn settled_otherwise(&mut self, tag: u64) {
        self.acks.settled_otherwise(tag);
    }

    /// Acks if enough waits for it, given that `prefetch` deliveries may be unacked.
    pub(crate) fn relieve(&mut self, prefetch: u16) {
        let most = (usize::from(prefetch) / PART).clamp(1, MOST_WAITING);
        if self.is_much(most) {
            self.ack_front();
            if self.is_much(most) {
                // The others wait behind a delivery that takes longer.
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

    /// Whether a finished delivery has no unfinished one before it.
    pub(crate) fn has_front(&self) -> bool {
        self.acks.has_prefix()
    }

    /// Writes one ack for all of those.
    pub(crate) fn ack_front(&mut self) {
        if let Some(ack) = self.acks.prefix() {
            self.write(ack);
        }
    }

    /// Acks what has been held back for too long.
    pub(crate) fn ack_overdue(&mut self) {
        self.ack_front();
        if let Some(until) = Instant::now().checked_sub(MOST_HELD_BACK) {
            self.ack_singly(until);
        }
    }

    /// Acks everything that is finished. An ack that does not get through counts as lost.
    pub(crate) async fn ack_all(&mut self) {
        self.ack_front();
        self.ack_singly(Instant::now());
        let _ = timeout(OPERATION_TIMEOUT, self.writing.by_ref().for_each(|_written| ready(()))).await;
    }

    /// Goes on with the acks that are being written; `None` if there are none. Cancellation safe.
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
                // Dropped, each settling says that its ack is lost.
                Err(_) => done.clear(),
            }
            done
        });
        // The first poll puts the ack in line. A `multiple` that overtook an earlier ack would cover its tag a second
        // time.
        if writing.as_mut().now_or_never().is_none() {
            self.writing.push(writing);
        }
    }
}
