//! Writes the acks of one channel.

use std::{future::ready, time::Instant};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::options::BasicAckOptions;
use tokio::time::timeout;

use crate::{
    consume::settle::{
        acks::{Ack, Acks, MOST_HELD_BACK},
        settler::Settling,
    },
    link::bounded::OPERATION_TIMEOUT,
};

/// Finished deliveries, and bytes of them, that wait for a common ack; fewer if that is much of what may be in hand.
const MOST_WAITING: usize = 64;
const MOST_BYTES: u64 = 256 * 1024;

/// What may wait for a common ack: a quarter of what may be unacked, or the broker would have nothing left to deliver.
const PART: usize = 4;

pub(crate) struct Acker {
    channel: lapin::Channel,
    /// What was acked on receipt has nothing to be told.
    acks: Acks<Option<Settling>>,
    writing: FuturesUnordered<LocalBoxFuture<'static, Vec<Option<Settling>>>>,
    most_bytes: u64,
}

impl Acker {
    /// For handlers that may have `bytes` in hand.
    pub(crate) fn new(channel: lapin::Channel, bytes: u64) -> Self {
        let most_bytes = MOST_BYTES.min(bytes / PART as u64);
        Self { channel, acks: Acks::default(), writing: FuturesUnordered::new(), most_bytes }
    }

    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.acks.delivered(tag);
    }

    /// All but its ack is done.
    pub(crate) fn finish(&mut self, settling: Settling) {
        let (tag, bytes) = (settling.received().tag, settling.received().body.len() as u64);
        self.acks.finished(tag, bytes, Some(settling), Instant::now());
    }

    /// At most once. Should its channel be lost first, there is nothing to do about it: what comes again is dropped on arrival.
    pub(crate) fn finish_on_receipt(&mut self, tag: u64) {
        self.acks.finished(tag, 0, None, Instant::now());
    }

    /// It was settled by a command of its own, which is written.
    pub(crate) fn settled_otherwise(&mut self, tag: u64) {
        self.acks.settled_otherwise(tag);
    }

    /// Acks if that should not wait for more, with `prefetch` deliveries that may be unacked.
    pub(crate) fn relieve(&mut self, prefetch: u16) {
        let most = (usize::from(prefetch) / PART).clamp(1, MOST_WAITING);
        if self.is_much(most) {
            self.ack_front();
            if self.is_much(most) {
                // The rest stands behind one that takes longer.
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

    /// Whether something is finished that nothing unfinished stands before.
    pub(crate) fn has_front(&self) -> bool {
        self.acks.has_prefix()
    }

    /// One ack for all of that.
    pub(crate) fn ack_front(&mut self) {
        if let Some(ack) = self.acks.prefix() {
            self.write(ack);
        }
    }

    /// What was held back for too long is acked.
    pub(crate) fn ack_overdue(&mut self) {
        self.ack_front();
        if let Some(until) = Instant::now().checked_sub(MOST_HELD_BACK) {
            self.ack_singly(until);
        }
    }

    /// Everything that is finished is acked, if the channel lets it; what does not get through is lost, and says so.
    pub(crate) async fn ack_all(&mut self) {
        self.ack_front();
        self.ack_singly(Instant::now());
        let _ = timeout(OPERATION_TIMEOUT, self.writing.by_ref().for_each(|_written| ready(()))).await;
    }

    /// Goes on with what is being written; `None` when that is nothing. Cancellation safe.
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
        let channel = self.channel.clone();
        let mut writing: LocalBoxFuture<'static, _> = Box::pin(async move {
            let mut done = ack.done;
            match channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }).await {
                Ok(()) => done.drain(..).flatten().for_each(Settling::acked),
                // What it stands for is lost, and says so.
                Err(_) => done.clear(),
            }
            done
        });
        // The first poll puts it in line: one `multiple` that overtook another ack would cover its tag a second time.
        if writing.as_mut().now_or_never().is_none() {
            self.writing.push(writing);
        }
    }
}
