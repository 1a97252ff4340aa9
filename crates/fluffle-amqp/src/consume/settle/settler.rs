//! Carries out the verdicts that [`decide`](crate::consume::decide) gives.
//!
//! The order is always the same: publish the copy, wait until it is confirmed *and* routed, then ack the original. A
//! crash in between leaves a duplicate and loses nothing. If a copy cannot be placed, the original stays unacked and
//! the copy is tried again.

use std::sync::Arc;

use fluffle_wire::{
    Encoded,
    headers::{Reason, TraceContext},
};
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use crate::{
    base::events::DeliveryEvent,
    consume::{
        attempt::attempt::Attempt,
        decide::verdict::Verdict,
        events::delivery_events::{self, DeliveryEvents, HANDLED},
        intake::seen::Seen,
        message::{received::Received, settled::Settled},
        settle::{
            commands::Commands,
            copies::{AnswerSent, Copies},
            copy, failure_lines,
            settling::Settling,
        },
    },
    publish::message::Prepared,
};

/// How many copies of items of one batch are published at the same time.
const COPIES_AT_A_TIME: usize = 64;

/// Carries out verdicts on one channel, for deliveries that came on that channel.
pub(crate) struct Settler<C> {
    pub(crate) commands: C,
    pub(crate) copies: Copies,
    pub(crate) events: Arc<DeliveryEvents>,
    pub(crate) seen: Option<Seen>,
}

/// What is left to do for a delivery.
pub(crate) enum Remaining {
    /// Its ack.
    Ack(Settling),
    /// Nothing: a command of its own settled this tag.
    Settled(u64),
    /// Nothing that can still be done on this channel.
    Nothing,
}

impl<C: Commands> Settler<C> {
    pub(crate) fn begin(&self, attempt: Arc<Attempt>) -> Settling {
        Settling::new(attempt, &self.events)
    }

    /// With effectively once: starts a task that marks in the store what the verdict says is handled. The task finishes
    /// even if the channel is lost first, and the message's key stays claimed until then.
    pub(crate) fn mark(self: &Arc<Self>, settling: &mut Settling, verdict: &Verdict) {
        let attempt = Arc::clone(settling.attempt());
        if self.seen.is_none() || attempt.seen_key.is_none() {
            return;
        }
        let settler = Arc::clone(self);
        settling.marked = match verdict {
            Verdict::Ack(_) => Some(actix::spawn(async move { settler.remember(&attempt).await })),
            Verdict::Apart(copies) => {
                let Some(contents) = attempt.contents() else { return };
                let is_handled = |index: &usize| copies.binary_search_by_key(index, |(copy, _)| *copy).is_err();
                let handled: Vec<usize> = contents.new_items(..).filter(is_handled).collect();
                Some(actix::spawn(async move { settler.remember_items(&attempt, handled.into_iter()).await }))
            }
            _ => None,
        };
    }

    /// Settles one delivery, except for its ack. If the future is dropped, the delivery stays unacked and the broker
    /// delivers it again.
    pub(crate) async fn settle(&self, mut settling: Settling, verdict: Verdict) -> Remaining {
        if let Some(marked) = settling.marked.take()
            && marked.await.is_err()
        {
            // The store panicked, so the mark may be missing: the delivery stays unacked.
            return Remaining::Nothing;
        }
        let attempt = &**settling.attempt();
        match verdict {
            Verdict::Ack(reply) => {
                if self.answer(attempt, reply).await {
                    return Remaining::Ack(settling.done(HANDLED, Settled::Acked));
                }
            }
            Verdict::Apart(copies) => {
                if let Some(not_acked) = self.take_apart(attempt, copies).await {
                    let messages = delivery_events::batch(attempt, &not_acked);
                    if let Some(contents) = attempt.contents() {
                        let _ = contents.not_acked.set(not_acked);
                    }
                    return Remaining::Ack(settling.done(messages, Settled::Acked));
                }
            }
            Verdict::Requeue => return self.requeue(attempt).await,
            Verdict::Refuse { reason, error } => {
                failure_lines::refusal(attempt, &reason, &error);
                if self.refuse(attempt, attempt.span(), &reason, &error).await {
                    return Remaining::Ack(
                        settling.done(delivery_events::not_handled(Settled::Refused), Settled::Refused),
                    );
                }
            }
            verdict @ (Verdict::Retry { .. } | Verdict::DeadLetter { .. }) => {
                if let Some(settled) = self.place_copy(attempt, attempt.span(), verdict).await {
                    return Remaining::Ack(settling.done(delivery_events::not_handled(settled), settled));
                }
            }
            // `Leave` sends nothing to the broker. The others take only an ack, or the session carries them out.
            Verdict::Leave
            | Verdict::RetryHere { .. }
            | Verdict::Duplicate
            | Verdict::Skip { .. }
            | Verdict::Expire
            | Verdict::Drop { .. } => {}
        }
        Remaining::Nothing
    }

    /// Settles a delivery that was acked on arrival: counts it, and returns a future that answers the requester, if
    /// there is one.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        attempt: &Arc<Attempt>,
        verdict: Verdict,
    ) -> Option<impl Future<Output = ()> + use<C>> {
        let (messages, settled, telling) = match verdict {
            Verdict::Ack(reply) => {
                (HANDLED, Settled::Acked, reply.and_then(|encoded| copy::reply(attempt, attempt.span(), encoded)))
            }
            Verdict::Apart(dropped) => {
                for (index, verdict) in &dropped {
                    failure_lines::dropped(attempt, verdict, Some(*index));
                }
                let not_acked: Vec<_> = dropped.iter().map(|(index, _)| (*index, Settled::Dropped)).collect();
                let messages = delivery_events::batch(attempt, &not_acked);
                if let Some(contents) = attempt.contents() {
                    let _ = contents.not_acked.set(not_acked);
                }
                (messages, Settled::Acked, None)
            }
            Verdict::Expire => (delivery_events::not_handled(Settled::Expired), Settled::Expired, None),
            Verdict::Skip { .. } => (delivery_events::not_handled(Settled::Skipped), Settled::Skipped, None),
            verdict => {
                failure_lines::dropped(attempt, &verdict, None);
                let telling = match verdict {
                    Verdict::Drop { error, refusal: Some(reason) } if attempt.wants_reply() => {
                        copy::refusal(attempt, attempt.span(), &reason, &error)
                    }
                    _ => None,
                };
                (delivery_events::not_handled(Settled::Dropped), Settled::Dropped, telling)
            }
        };
        self.events.settled(attempt, messages);
        attempt.settle_as(settled);
        let settler = Arc::clone(self);
        telling.map(|message| async move {
            settler.send_answer(message).await;
        })
    }

    /// Places a copy of each item that was not handled, under the item's own id. Returns what became of these items.
    /// `None` if a copy could not be placed before the channel was lost or the application stopped.
    async fn take_apart(&self, attempt: &Attempt, copies: Vec<(usize, Verdict)>) -> Option<Vec<(usize, Settled)>> {
        let contents = attempt.contents()?;
        let placing = contents.by_themselves(attempt, copies).map(|(index, item, verdict)| async move {
            let own = contents.span(index);
            let settled = self.place_copy(&item, own.as_ref().or(attempt.span()), verdict).await;
            settled.map(|settled| (index, settled))
        });
        let placed: Vec<Option<(usize, Settled)>> = stream::iter(placing).buffered(COPIES_AT_A_TIME).collect().await;
        self.remember(attempt).await;
        placed.into_iter().collect()
    }

    /// Places the copy of a message, or of one item, that was not handled. `span` is that of the attempt. `None` if the
    /// copy could not be placed before the channel was lost or the application stopped.
    async fn place_copy(&self, message: &Received, span: Option<&TraceContext>, verdict: Verdict) -> Option<Settled> {
        match verdict {
            Verdict::Retry { delay, wait, attempt, error } => {
                failure_lines::retry(message, wait, &error);
                let retries = self.copies.side_queues.retry(delay);
                let copy = copy::retry(message, &retries, attempt, wait, &error);
                self.place(copy::after_attempt(copy, span), true).await.then_some(Settled::Retried)
            }
            Verdict::RetryHere { wait, attempt, error } => {
                failure_lines::retry_here(message, wait, &error);
                sleep(wait).await;
                let copy = copy::again(message, &message.queue, attempt, &error);
                self.place(copy::after_attempt(copy, span), false).await.then_some(Settled::Retried)
            }
            Verdict::DeadLetter { reason, error } => {
                let dead_letters = &self.copies.side_queues.dead_letter;
                let copy = copy::dead_letter(message, dead_letters, &reason, &error);
                let placed = self.place(copy::after_attempt(copy, span), false).await;
                if placed {
                    failure_lines::dead_letter(message, dead_letters, &reason, &error);
                }
                (placed && self.refuse(message, span, &reason, &error).await).then_some(Settled::DeadLettered)
            }
            Verdict::Skip { .. } => Some(Settled::Skipped),
            Verdict::Ack(_)
            | Verdict::Requeue
            | Verdict::Leave
            | Verdict::Duplicate
            | Verdict::Refuse { .. }
            | Verdict::Expire
            | Verdict::Drop { .. }
            | Verdict::Apart(_) => None,
        }
    }

    async fn place(&self, copy: Prepared, dies_in_queue: bool) -> bool {
        self.copies.place(copy, dies_in_queue, || self.commands.is_connected()).await
    }

    async fn requeue(&self, attempt: &Attempt) -> Remaining {
        // If the channel is lost, the broker has requeued the message already.
        if self.commands.requeue(attempt.tag).await.is_err() {
            return Remaining::Nothing;
        }
        self.events.settled(attempt, delivery_events::not_handled(Settled::Requeued));
        attempt.settle_as(Settled::Requeued);
        Remaining::Settled(attempt.tag)
    }

    /// With effectively once: marks a message as handled, after the work and before the ack.
    pub(crate) async fn remember(&self, attempt: &Attempt) {
        if let (Some(seen), Some(key)) = (&self.seen, &attempt.seen_key) {
            seen.remember(key).await;
        }
    }

    /// With effectively once: marks items of a batch as handled.
    pub(crate) async fn remember_items(&self, attempt: &Attempt, items: impl Iterator<Item = usize>) {
        if let (Some(seen), Some(_)) = (&self.seen, &attempt.seen_key) {
            seen.remember_items(attempt, items).await;
        }
    }

    /// Sends the answer to a request. Also true if nobody asked, or if the requester is gone. False if the application
    /// stops.
    async fn answer(&self, message: &Attempt, reply: Option<Encoded>) -> bool {
        match reply.and_then(|encoded| copy::reply(message, message.span(), encoded)) {
            Some(answer) => self.send_answer(answer).await,
            None => true,
        }
    }

    /// Tells a requester that its request was not handled, so that it need not wait for its deadline. False if the
    /// application stops.
    async fn refuse(&self, message: &Received, span: Option<&TraceContext>, reason: &Reason, error: &str) -> bool {
        if !message.wants_reply() {
            return true;
        }
        match copy::refusal(message, span, reason, error) {
            Some(refusal) => self.send_answer(refusal).await,
            None => true,
        }
    }

    async fn send_answer(&self, answer: Prepared) -> bool {
        match self.copies.answer(answer).await {
            AnswerSent::Sent => true,
            AnswerSent::Unroutable => {
                self.events.emit(DeliveryEvent::ReplyUnroutable);
                true
            }
            AnswerSent::Closed => false,
        }
    }
}
