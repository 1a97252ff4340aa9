//! Carries out what [`verdict`](crate::consume::decide::verdict) has decided of a delivery.
//!
//! The order is always: publish the copy, have it confirmed *and* routed, then ack the original. A crash between
//! the two gives a duplicate, never a loss. A copy that cannot be placed keeps its original unacked and is tried again.

use std::{sync::Arc, time::Duration};

use fluffle_supervise::SupervisedAddr;
use fluffle_wire::{Encoded, headers::Reason};
use futures_util::{StreamExt, stream};
use lapin::options::BasicNackOptions;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    consume::{
        decide::verdict::Verdict,
        intake::seen::{self, Seen},
        message::received::{Received, Settled},
        session::stats::{ConsumerCounters, Tally, count, count_more},
        settle::copy,
        spec::side_queues::retry_queue,
    },
    link::{
        bounded::OPERATION_TIMEOUT,
        connection::{ConnectionActor, Declare},
    },
    publish::{error::PublishErrorKind, message::Prepared, outcome::SendOutcome, send_queue::SendQueue},
};

/// Copies of one batch's items on their way at a time.
const COPIES: usize = 64;

/// The waits between attempts to place a copy that was refused, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Carries verdicts out on one channel generation. Tags of another generation never get here.
pub(crate) struct Settler {
    pub(crate) channel: lapin::Channel,
    /// Where copies and answers are published: a publisher of the consumer's own, on a publish connection.
    pub(crate) copies: Arc<SendQueue>,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<ConsumerCounters>,
    pub(crate) seen: Option<Seen>,
}

/// A delivery that is being settled. Dropped before its ack is written, its channel was lost: whoever follows the delivery is
/// told, or would hold its claim for ever.
pub(crate) struct Settling {
    received: Arc<Received>,
    counters: Arc<ConsumerCounters>,
    /// Effectively once: on its way into the store, which it reaches whatever becomes of this.
    marked: Option<JoinHandle<()>>,
    /// What it counts as, once its ack is written, which is all that is left to do.
    done: Option<(Tally, Settled)>,
}

impl Settling {
    /// Whether `verdict` takes nothing but its ack; that is all that is left to do then.
    pub(crate) fn at_once(&mut self, verdict: &Verdict) -> bool {
        let answers = |reply: &Option<Encoded>| reply.is_some() && self.received.wants_reply();
        let remembers = self.received.claim.get().is_some();
        self.done = match verdict {
            Verdict::Ack(reply) if !remembers && !answers(reply) => {
                Some((Tally { handled: 1, ..Tally::default() }, Settled::Acked))
            }
            Verdict::Apart(copies) if !remembers && copies.is_empty() => {
                Some((Tally::of_batch(&self.received, &[]), Settled::Acked))
            }
            Verdict::Expire => {
                let (queue, message_id) = (&self.received.queue, self.received.message_id().unwrap_or("-"));
                tracing::debug!(%queue, message_id, "nobody waits for the answer any more: request not handled");
                Some((Tally::of(Settled::Expired), Settled::Expired))
            }
            Verdict::Duplicate => {
                tracing::debug!(
                    queue = %self.received.queue, message_id = self.received.message_id().unwrap_or("-"),
                    "handled before: acked and not handled again"
                );
                Some((Tally { duplicates: 1, ..Tally::default() }, Settled::Acked))
            }
            _ => None,
        };
        self.done.is_some()
    }

    fn done(mut self, tally: Tally, settled: Settled) -> NextStep {
        self.done = Some((tally, settled));
        NextStep::Ack(self)
    }

    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    /// Its ack is written.
    pub(crate) fn acked(mut self) {
        if let Some((tally, settled)) = self.done.take() {
            self.counters.add(&tally);
            self.received.settle_as(settled);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some((tally, _)) = &self.done {
            // The work is done and the ack is not: the broker delivers again.
            count_more(&self.counters.work_done_ack_lost, tally.total());
        }
        self.received.settle_as(Settled::Lost);
        self.received.release();
    }
}

/// What settling a delivery has come to.
pub(crate) enum NextStep {
    /// All but its ack is done.
    Ack(Settling),
    /// A command of its own is written.
    Written(u64),
    /// Nothing is left to do, or nothing can be done on this channel.
    Over,
}

impl Settler {
    pub(crate) fn begin(&self, received: Arc<Received>) -> Settling {
        Settling { received, counters: Arc::clone(&self.counters), marked: None, done: None }
    }

    /// Effectively once: what is handled is remembered, though the channel ends first. The message is in hand until it is.
    pub(crate) fn mark(self: &Arc<Self>, settling: &mut Settling, verdict: &Verdict) {
        let (Some(_), Some(_)) = (&self.seen, settling.received.claim.get()) else { return };
        let (settler, received) = (Arc::clone(self), Arc::clone(&settling.received));
        settling.marked = match verdict {
            Verdict::Ack(_) => Some(actix::spawn(async move { settler.remember(&received).await })),
            Verdict::Apart(copies) => {
                let Some(contents) = received.contents.get() else { return };
                let is_handled = |index: &usize| copies.binary_search_by_key(index, |(copy, _)| *copy).is_err();
                let handled: Vec<usize> = contents.new_items(..).filter(is_handled).collect();
                Some(actix::spawn(async move { settler.remember_items(&received, handled.into_iter()).await }))
            }
            _ => None,
        };
    }

    /// Settles one delivery, up to its ack. Dropped before it is done, the delivery stays unacked and the broker delivers it
    /// again.
    pub(crate) async fn settle(&self, mut settling: Settling, verdict: Verdict) -> NextStep {
        if let Some(marked) = settling.marked.take()
            && marked.await.is_err()
        {
            // A store that panics has remembered nothing.
            return NextStep::Over;
        }
        let received = &*settling.received;
        match verdict {
            Verdict::Ack(reply) => {
                if self.answer(received, reply).await {
                    return settling.done(Tally { handled: 1, ..Tally::default() }, Settled::Acked);
                }
            }
            Verdict::Apart(copies) => {
                if let Some(not_acked) = self.take_apart(received, copies).await {
                    let tally = Tally::of_batch(received, &not_acked);
                    if let Some(contents) = received.contents.get() {
                        let _ = contents.not_acked.set(not_acked);
                    }
                    return settling.done(tally, Settled::Acked);
                }
            }
            Verdict::Requeue => return self.requeue(received).await,
            Verdict::Refuse { reason, error } => {
                let (queue, message_id, why) = (&received.queue, received.message_id().unwrap_or("-"), reason.as_str());
                match reason {
                    // The application's own answer.
                    Reason::Rejected => tracing::debug!(%queue, message_id, %error, "request answered with no"),
                    _ => tracing::warn!(%queue, message_id, reason = why, %error, "request answered with its failure"),
                }
                if self.refuse_request(received, &reason, &error).await {
                    return settling.done(Tally::of(Settled::Refused), Settled::Refused);
                }
            }
            verdict @ (Verdict::Retry { .. } | Verdict::DeadLetter { .. }) => {
                if let Some(settled) = self.place_copy(received, verdict).await {
                    return settling.done(Tally::of(settled), settled);
                }
            }
            // Nothing to say to the broker: the consumer keeps it, or its ack is all it takes.
            Verdict::RetryHere { .. } | Verdict::Duplicate | Verdict::Expire => {}
        }
        NextStep::Over
    }

    /// A batch: its handled items are remembered, each of the others goes its own way, under an id of its own. Gives what became
    /// of those.
    async fn take_apart(&self, received: &Received, copies: Vec<(usize, Verdict)>) -> Option<Vec<(usize, Settled)>> {
        let contents = received.contents.get()?;
        let placing = contents.by_themselves(received, copies).map(|(index, item, verdict)| async move {
            let settled = self.place_copy(&item, verdict).await;
            settled.map(|settled| (index, settled))
        });
        let placed: Vec<Option<(usize, Settled)>> = stream::iter(placing).buffered(COPIES).collect().await;
        self.remember(received).await;
        placed.into_iter().collect()
    }

    /// Places the copy of a message, or of one item, that was not handled. `None` when it could not be placed in time.
    async fn place_copy(&self, received: &Received, verdict: Verdict) -> Option<Settled> {
        let (queue, message_id, now) = (&received.queue, received.message_id().unwrap_or("-"), received.attempt.get());
        match verdict {
            Verdict::Retry { delay, wait, attempt, error } => {
                tracing::warn!(%queue, message_id, attempt = now, ?wait, %error, "not handled: retry");
                let retries = retry_queue(&self.retry_queue, delay);
                let copy = copy::retry(received, &retries, attempt, wait, &error);
                self.place(copy, true).await.then_some(Settled::Retried)
            }
            Verdict::RetryHere { wait, attempt, error } => {
                tracing::warn!(%queue, message_id, attempt = now, ?wait, %error, "not handled: retry, after a wait here");
                sleep(wait).await;
                let copy = copy::again(received, queue, attempt, &error);
                self.place(copy, false).await.then_some(Settled::Retried)
            }
            Verdict::DeadLetter { reason, error } => {
                let why = reason.as_str();
                tracing::error!(%queue, message_id, attempt = now, reason = why, %error, "not handled: dead letter");
                let copy = copy::dead_letter(received, &self.dead_letter_queue, &reason, &error);
                let placed = self.place(copy, false).await;
                (placed && self.refuse_request(received, &reason, &error).await).then_some(Settled::DeadLettered)
            }
            Verdict::Ack(_)
            | Verdict::Requeue
            | Verdict::Duplicate
            | Verdict::Refuse { .. }
            | Verdict::Expire
            | Verdict::Apart(_) => None,
        }
    }

    /// Effectively once, for items of a batch.
    pub(crate) async fn remember_items(&self, received: &Received, items: impl Iterator<Item = usize>) {
        if let (Some(seen), Some(_)) = (&self.seen, received.claim.get()) {
            seen.remember_all(&seen::item_keys(received, items)).await;
        }
    }

    async fn requeue(&self, received: &Received) -> NextStep {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // When the channel is gone the broker has requeued it already.
        if self.channel.basic_nack(received.tag, options).await.is_err() {
            return NextStep::Over;
        }
        count(&self.counters.requeued);
        received.settle_as(Settled::Requeued);
        NextStep::Written(received.tag)
    }

    /// Effectively once: after the work, before the ack.
    pub(crate) async fn remember(&self, received: &Received) {
        if let (Some(seen), Some(claim)) = (&self.seen, received.claim.get()) {
            seen.remember(&claim.key).await;
        }
    }

    /// At most once, the request was acked when it came: whoever asked is told what became of it.
    pub(crate) async fn tell(&self, received: &Received, verdict: Verdict) {
        match verdict {
            Verdict::Ack(reply) => self.answer(received, reply).await,
            Verdict::Refuse { reason, error } => self.refuse_request(received, &reason, &error).await,
            _ => true,
        };
    }

    /// Publishes the answer to a request; nobody asked is fine, and so is a requester that is gone.
    async fn answer(&self, received: &Received, reply: Option<Encoded>) -> bool {
        match reply.and_then(|encoded| copy::reply(received, encoded)) {
            Some(message) => self.send_reply(message).await,
            None => true,
        }
    }

    /// Tells the requester that its request was given up, so that it need not wait for its deadline.
    async fn refuse_request(&self, received: &Received, reason: &Reason, error: &str) -> bool {
        if !received.wants_reply() {
            return true;
        }
        match copy::refusal(received, reason, error) {
            Some(message) => self.send_reply(message).await,
            None => true,
        }
    }

    async fn send_reply(&self, message: Prepared) -> bool {
        match self.publish(message).await {
            SendOutcome::Confirmed | SendOutcome::Written => true,
            SendOutcome::Closed => false,
            _ => {
                count(&self.counters.replies_unroutable);
                true
            }
        }
    }

    /// Publishes a copy until it is confirmed and routed. False when the channel of the original ended first, or the
    /// application is closing: then the original is the broker's again. `dies_in_queue`: the broker dead-letters it from there,
    /// and adds headers.
    ///
    /// If the broker refuses it as it is, the copy is published without its foreign headers. If that is refused, too, no other
    /// form of it would be taken: a person has to act, and until then it is tried again ever more slowly.
    async fn place(&self, message: Prepared, dies_in_queue: bool) -> bool {
        let mut message = copy::fit(message, self.copies.most_header_bytes(), dies_in_queue);
        let mut is_plain = false;
        let mut wait = FIRST_WAIT;
        loop {
            match self.publish(message.clone()).await {
                SendOutcome::Confirmed => return true,
                SendOutcome::Closed => return false,
                // The frame may have become smaller since: another broker's, or another setting of this one.
                SendOutcome::Unsent(PublishErrorKind::HeadersTooLarge { most, .. }) if !is_plain => {
                    message = copy::fit(copy::plain(message), most, dies_in_queue);
                    is_plain = true;
                }
                SendOutcome::Refused { code, text } if !is_plain => {
                    tracing::error!(
                        queue = %message.routing_key, message_id = message.id(), code, text,
                        "the broker refused the copy of a failed message: published again without the headers of its sender"
                    );
                    message = copy::fit(copy::plain(message), self.copies.most_header_bytes(), dies_in_queue);
                    is_plain = true;
                }
                outcome => {
                    tracing::error!(
                        queue = %message.routing_key, ?outcome, ?wait,
                        "the copy of a failed message found no place: the original stays unacked, trying again"
                    );
                    if matches!(outcome, SendOutcome::Returned(_)) {
                        // Its queue was deleted. Whether declaring it again worked shows at the next try.
                        let _ = self.connection.send(Declare::Shared).within(OPERATION_TIMEOUT).await;
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            if !self.channel.status().connected() {
                return false;
            }
        }
    }

    async fn publish(&self, message: Prepared) -> SendOutcome {
        self.copies.publish(message).await
    }
}
