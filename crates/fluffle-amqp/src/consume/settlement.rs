//! What becomes of a delivery is decided here and nowhere else: ack, retry, dead letter, or back to the queue.
//!
//! The order is always: publish the copy, have it confirmed *and* routed, then ack the original. A crash between
//! the two gives a duplicate, never a loss. A copy that cannot be placed keeps its original unacked and is tried again.

use std::{sync::Arc, time::Duration};

use fluffle_supervise::SupervisedAddr;
use fluffle_wire::{
    Encoded,
    headers::{Attempt, Reason},
};
use futures_util::{StreamExt, stream};
use lapin::options::BasicNackOptions;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    connection::{ConnectionActor, Declare, OPERATION_TIMEOUT},
    consume::{
        copy,
        crash::Crash,
        lane::Outcome,
        received::{Received, Settled},
        retry::Retry,
        seen::{self, Seen},
        spec::Guarantee,
        stats::{Counters, Tally, count, count_more},
    },
    publish::{
        message::Prepared,
        outbox::{self, Outbox},
    },
};

/// Copies of one batch's items on their way at a time.
const COPIES: usize = 64;

/// The waits between attempts to place a copy that was refused, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is done with one delivery.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Done: answer if there is somebody to answer, then ack.
    Ack(Option<Encoded>),
    /// A copy waits `wait` in the retry queue for `delay` and comes back as attempt `attempt`; then ack.
    Retry { delay: Duration, wait: Duration, attempt: Attempt, error: String },
    /// It waits here, unacked, and is attempt `attempt` then.
    RetryHere { wait: Duration, attempt: Attempt, error: String },
    /// A copy goes to the dead-letter queue; then ack.
    DeadLetter { reason: Reason, error: String },
    /// Nothing happened to it: `basic.nack` with requeue.
    Requeue,
    /// Handled before, and remembered: ack.
    Duplicate,
    /// A batch: each item that was not handled has a verdict of its own, its copy goes its own way; then ack.
    Apart(Vec<(usize, Verdict)>),
}

/// Decides. Pure: the same outcome on the same attempt always means the same.
pub(crate) fn decide(outcome: Outcome, received: &Received, retry: &Retry) -> Verdict {
    let contents = received.contents.get();
    let failed = match outcome {
        Outcome::Handled(reply) => return Verdict::Ack(reply),
        Outcome::NotStarted | Outcome::LateItem(..) => return Verdict::Requeue,
        // What it was not given any more comes again, and the rest of it with it.
        Outcome::Items(items) if contents.is_none_or(|all| !items.is_complete(all.items.len())) => {
            return Verdict::Requeue;
        }
        Outcome::Items(items) => {
            let each = |(index, why): (usize, Arc<Outcome>)| (index, not_handled(&why, received, retry));
            return Verdict::Apart(items.failed.into_iter().map(each).collect());
        }
        failed => failed,
    };
    let verdict = || not_handled(&failed, received, retry);
    // A batch that was handled at once is taken apart: whoever in it is to blame is alone the next time.
    contents.map_or_else(verdict, |all| Verdict::Apart(all.new_items(..).map(|index| (index, verdict())).collect()))
}

fn not_handled(why: &Outcome, received: &Received, retry: &Retry) -> Verdict {
    let (error, wanted) = match why {
        Outcome::Undecodable(error) => {
            return Verdict::DeadLetter { reason: Reason::Undecodable, error: error.to_string() };
        }
        Outcome::Failed(failure) if failure.is_permanent() => {
            return Verdict::DeadLetter { reason: Reason::Rejected, error: failure.chain() };
        }
        Outcome::Failed(failure) => (failure.chain(), failure.wait()),
        Outcome::Crashed(crash) => (crash.text(), None),
        _ => (Crash::default().text(), None),
    };
    match retry.delay_after(received.attempt.get(), wanted) {
        Some(delay) if retry.is_in_process(delay) => {
            Verdict::RetryHere { wait: retry.jittered(delay), attempt: received.attempt.next(), error }
        }
        Some(delay) => Verdict::Retry { delay, wait: retry.jittered(delay), attempt: received.attempt.next(), error },
        None => Verdict::DeadLetter { reason: Reason::AttemptsExhausted, error },
    }
}

/// What is done with a delivery before any handler sees it.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Handed to a handler, whose answer settles it.
    Handle,
    /// Handed to a handler, unless its message has been handled before.
    LookUp(String),
    /// Acked now, then handed to a handler: at most once.
    AckAndHandle,
    /// Acked and not handled, at most once: an earlier ack did not get through, and it may have been handled then.
    AckAndDrop,
    /// Settled without a handler.
    Settle(Verdict),
}

/// Decides on arrival: what is acked at once, and what never gets to a handler.
pub(crate) fn receive(received: &Received, guarantee: Guarantee, remembers: bool, delivery_limit: u32) -> Arrival {
    match guarantee {
        Guarantee::AtMostOnce if received.redelivered => Arrival::AckAndDrop,
        Guarantee::AtMostOnce => Arrival::AckAndHandle,
        Guarantee::AtLeastOnce => {
            // It never even gets to a handler's answer: it has taken its whole process down, again and again, the last times
            // with nothing else in hand (`quarantine.rs`).
            let count = received.delivery_count();
            if count < delivery_limit {
                // Without an id it cannot be told from any other: at least once is the best there is.
                let key = if remembers { seen::key(received) } else { None };
                return key.map_or(Arrival::Handle, Arrival::LookUp);
            }
            Arrival::Settle(Verdict::DeadLetter {
                reason: Reason::parse("delivery-limit"),
                error: format!("delivered {count} times (x-delivery-count) and never settled"),
            })
        }
    }
}

/// Decides on what the store of seen messages says: acked, or handed to a handler.
pub(crate) fn looked_up(handled_before: bool) -> Arrival {
    if handled_before { Arrival::Settle(Verdict::Duplicate) } else { Arrival::Handle }
}

/// Carries verdicts out on one channel generation. Tags of another generation never get here.
pub(crate) struct Settler {
    pub(crate) channel: lapin::Channel,
    /// Where copies and answers are published: a publisher of the consumer's own, on a publish connection.
    pub(crate) copies: Arc<Outbox>,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seen: Option<Seen>,
}

/// A delivery that is being settled. Dropped before its ack is written, its channel was lost: whoever follows the delivery is
/// told, or would hold its claim for ever.
pub(crate) struct Settling {
    received: Arc<Received>,
    counters: Arc<Counters>,
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

    fn done(mut self, tally: Tally, settled: Settled) -> Step {
        self.done = Some((tally, settled));
        Step::Ack(self)
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
pub(crate) enum Step {
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
    pub(crate) async fn settle(&self, mut settling: Settling, verdict: Verdict) -> Step {
        if let Some(marked) = settling.marked.take()
            && marked.await.is_err()
        {
            // A store that panics has remembered nothing.
            return Step::Over;
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
            verdict @ (Verdict::Retry { .. } | Verdict::DeadLetter { .. }) => {
                if let Some(settled) = self.place_copy(received, verdict).await {
                    return settling.done(Tally::of(settled), settled);
                }
            }
            // Nothing to say to the broker: the consumer keeps it, or its ack is all it takes.
            Verdict::RetryHere { .. } | Verdict::Duplicate => {}
        }
        Step::Over
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
                self.place(copy::retry(received, &retries, attempt, wait, &error)).await.then_some(Settled::Retried)
            }
            Verdict::RetryHere { wait, attempt, error } => {
                tracing::warn!(%queue, message_id, attempt = now, ?wait, %error, "not handled: retry, after a wait here");
                sleep(wait).await;
                self.place(copy::again(received, queue, attempt, &error)).await.then_some(Settled::Retried)
            }
            Verdict::DeadLetter { reason, error } => {
                let why = reason.as_str();
                tracing::error!(%queue, message_id, attempt = now, reason = why, %error, "not handled: dead letter");
                let placed = self.place(copy::dead_letter(received, &self.dead_letter_queue, &reason, &error)).await;
                (placed && self.refuse_request(received, &reason, &error).await).then_some(Settled::DeadLettered)
            }
            Verdict::Ack(_) | Verdict::Requeue | Verdict::Duplicate | Verdict::Apart(_) => None,
        }
    }

    /// Effectively once, for items of a batch.
    pub(crate) async fn remember_items(&self, received: &Received, items: impl Iterator<Item = usize>) {
        if let (Some(seen), Some(_)) = (&self.seen, received.claim.get()) {
            seen.remember_all(&seen::item_keys(received, items)).await;
        }
    }

    async fn requeue(&self, received: &Received) -> Step {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // When the channel is gone the broker has requeued it already.
        if self.channel.basic_nack(received.tag, options).await.is_err() {
            return Step::Over;
        }
        count(&self.counters.requeued);
        received.settle_as(Settled::Requeued);
        Step::Written(received.tag)
    }

    /// Effectively once: after the work, before the ack.
    pub(crate) async fn remember(&self, received: &Received) {
        if let (Some(seen), Some(claim)) = (&self.seen, received.claim.get()) {
            seen.remember(&claim.key).await;
        }
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
        match copy::refusal(received, reason, error) {
            Some(message) => self.send_reply(message).await,
            None => true,
        }
    }

    async fn send_reply(&self, message: Prepared) -> bool {
        match self.publish(message).await {
            outbox::Outcome::Confirmed | outbox::Outcome::Written => true,
            outbox::Outcome::Closed => false,
            _ => {
                count(&self.counters.replies_unroutable);
                true
            }
        }
    }

    /// Publishes a copy until it is confirmed and routed. False when the channel of the original ended first, or the
    /// application is closing: then the original is the broker's again.
    async fn place(&self, message: Prepared) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            match self.publish(message.clone()).await {
                outbox::Outcome::Confirmed => return true,
                outbox::Outcome::Closed => return false,
                outcome => {
                    tracing::error!(
                        queue = %message.routing_key, ?outcome, ?wait,
                        "the copy of a failed message found no place: the original stays unacked, trying again"
                    );
                    if matches!(outcome, outbox::Outcome::Returned(_)) {
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

    async fn publish(&self, message: Prepared) -> outbox::Outcome {
        self.copies.publish(message).await
    }
}

/// `<queue>.retry.<milliseconds>`: the delay is part of the name, so another policy makes other queues, not a conflict.
pub(crate) fn retry_queue(prefix: &str, delay: Duration) -> String {
    format!("{prefix}.{}", delay.as_millis())
}

#[cfg(test)]
mod tests {
    use fluffle_wire::Wire;

    use super::*;
    use crate::consume::{
        envelope::{Contents, ItemOutcomes},
        failure::Failure,
        received::tests::{received, received_with},
    };

    fn retry() -> Retry {
        Retry::exponential(3, Duration::from_secs(1), 2.0).unwrap()
    }

    #[test]
    fn success_acks_and_an_untouched_message_goes_back() {
        assert!(matches!(decide(Outcome::Handled(None), &received(1), &retry()), Verdict::Ack(None)));
        assert!(matches!(decide(Outcome::NotStarted, &received(1), &retry()), Verdict::Requeue));
    }

    #[test]
    fn a_transient_failure_and_a_crash_are_retried_until_the_attempts_are_used_up() {
        for outcome in [|| Outcome::Failed(Failure::retry("no")), || Outcome::Crashed(Crash::default())] {
            for (attempt, delay) in [(1, 1), (2, 2)] {
                match decide(outcome(), &received(attempt), &retry()) {
                    Verdict::Retry { delay: wait, attempt: next, .. } => {
                        assert_eq!((wait, next.get()), (Duration::from_secs(delay), attempt + 1));
                    }
                    other => panic!("attempt {attempt}: {other:?}"),
                }
            }
            let last = decide(outcome(), &received(3), &retry());
            assert!(matches!(last, Verdict::DeadLetter { reason: Reason::AttemptsExhausted, .. }), "{last:?}");
        }
    }

    #[test]
    fn a_rejection_is_dead_lettered_at_once() {
        let verdict = decide(Outcome::Failed(Failure::reject("never")), &received(1), &retry());
        assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::Rejected, .. }), "{verdict:?}");
    }

    #[test]
    fn a_batch_some_of_whose_items_were_not_begun_goes_back_whole() {
        let (batch, wire) = (received(1), Wire::<String>::protobuf());
        let sent = wire.encode_batch(&["a", "b", "c"].map(str::to_owned)).unwrap();
        batch.open(Contents::new(wire.decode_batch(&sent.incoming()).unwrap().raw_items(), ""));
        let after = |until| decide(Outcome::Items(ItemOutcomes { until, failed: Vec::new() }), &batch, &retry());
        assert!(matches!(after(2), Verdict::Requeue));
        assert!(matches!(after(3), Verdict::Apart(failed) if failed.is_empty()));
    }

    #[test]
    fn a_message_that_keeps_killing_its_process_is_given_up_on_arrival() {
        let delivered = |count: i64| {
            let mut table = lapin::types::FieldTable::default();
            table.insert("x-delivery-count".into(), lapin::types::AMQPValue::LongLongInt(count));
            received_with(1, lapin::BasicProperties::default().with_headers(table))
        };
        let arrival = |count| receive(&delivered(count), Guarantee::AtLeastOnce, false, 20);
        assert!(matches!(arrival(19), Arrival::Handle));
        assert!(matches!(arrival(20), Arrival::Settle(Verdict::DeadLetter { .. })));
    }
}
