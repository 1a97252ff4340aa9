//! What becomes of a delivery is decided here and nowhere else: ack, retry, dead letter, or back to the queue.
//!
//! The order is always: publish the copy, have it confirmed *and* routed, then ack the original. A crash between
//! the two gives a duplicate, never a loss. A copy that cannot be placed keeps its original unacked and is tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fluffle_supervise::SupervisedAddr;
use fluffle_wire::{
    Encoded,
    headers::{Attempt, Reason},
};
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::time::sleep;

use crate::{
    connection::{ConnectionActor, Declare, OPERATION_TIMEOUT},
    consume::{
        copy,
        guard::ConsumerState,
        lane::Outcome,
        received::{Received, Settled},
        retry::Retry,
        seen::{self, Seen},
        spec::Guarantee,
    },
    publish::{
        message::Prepared,
        outbox::{self, Outbox},
    },
};

/// A quorum queue that has handed a message out this often without an answer holds a message that kills its process.
const DELIVERY_LIMIT: u32 = 20;

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
}

/// Decides. Pure: the same outcome on the same attempt always means the same.
pub(crate) fn decide(outcome: Outcome, received: &Received, retry: &Retry) -> Verdict {
    let (error, wanted) = match outcome {
        Outcome::Handled(reply) => return Verdict::Ack(reply),
        Outcome::NotStarted => return Verdict::Requeue,
        Outcome::Undecodable(error) => {
            return Verdict::DeadLetter { reason: Reason::Undecodable, error: error.to_string() };
        }
        Outcome::Failed(failure) if failure.is_permanent() => {
            return Verdict::DeadLetter { reason: Reason::Rejected, error: failure.chain() };
        }
        Outcome::Failed(failure) => (failure.chain(), failure.wait()),
        Outcome::Crashed => ("the handler panicked or ended with this message in hand".to_owned(), None),
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
pub(crate) fn receive(received: &Received, guarantee: Guarantee, remembers: bool) -> Arrival {
    match guarantee {
        Guarantee::AtMostOnce if received.redelivered => Arrival::AckAndDrop,
        Guarantee::AtMostOnce => Arrival::AckAndHandle,
        Guarantee::AtLeastOnce => {
            // It never even gets to a handler's answer: it has taken its whole process down, again and again.
            let count = received.delivery_count();
            if count < DELIVERY_LIMIT {
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

/// Running totals of one consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Deliveries received.
    pub received: u64,
    /// Deliveries handled and acked.
    pub handled: u64,
    /// Retry copies placed.
    pub retried: u64,
    /// Dead letters placed.
    pub dead_lettered: u64,
    /// Deliveries put back into their queue.
    pub requeued: u64,
    /// Deliveries whose handler panicked or ended with them in hand.
    pub crashed: u64,
    /// Deliveries handled after their channel was lost: the work is done, the ack is not, the broker delivers again.
    pub work_done_ack_lost: u64,
    /// Answers that came after the handler's deadline.
    pub late: u64,
    /// Answers to requests whose requester was gone.
    pub replies_unroutable: u64,
    /// With `AtMostOnce`: deliveries that failed, or came again and may have been handled before.
    pub dropped: u64,
    /// With `effectively_once`: deliveries of messages handled before, acked without a handler.
    pub duplicates: u64,
    /// What it is doing now.
    pub state: ConsumerState,
}

/// [`ConsumerStats`] while they count.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) work_done_ack_lost: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) replies_unroutable: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) duplicates: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, state: ConsumerState) -> ConsumerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerStats {
            received: read(&self.received),
            handled: read(&self.handled),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            requeued: read(&self.requeued),
            crashed: read(&self.crashed),
            work_done_ack_lost: read(&self.work_done_ack_lost),
            late: read(&self.late),
            replies_unroutable: read(&self.replies_unroutable),
            dropped: read(&self.dropped),
            duplicates: read(&self.duplicates),
            state,
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
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

impl Settler {
    /// Settles one delivery. Dropped before it is done, the delivery stays unacked and the broker delivers it again.
    pub(crate) async fn settle(&self, received: &Received, verdict: Verdict) {
        match verdict {
            Verdict::Ack(reply) => {
                self.remember(received).await;
                if self.answer(received, reply).await {
                    self.ack(received, &self.counters.handled, Settled::Acked).await;
                }
            }
            Verdict::Duplicate => {
                tracing::debug!(
                    queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
                    "handled before: acked and not handled again"
                );
                self.ack(received, &self.counters.duplicates, Settled::Acked).await;
            }
            Verdict::Retry { delay, wait, attempt, error } => {
                tracing::warn!(
                    queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
                    attempt = received.attempt.get(), ?wait, %error, "not handled: retry"
                );
                let queue = retry_queue(&self.retry_queue, delay);
                if self.place(copy::retry(received, &queue, attempt, wait, &error)).await {
                    self.ack(received, &self.counters.retried, Settled::Retried).await;
                }
            }
            Verdict::DeadLetter { reason, error } => {
                tracing::error!(
                    queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
                    attempt = received.attempt.get(), reason = reason.as_str(), %error, "not handled: dead letter"
                );
                let placed = self.place(copy::dead_letter(received, &self.dead_letter_queue, &reason, &error)).await;
                if placed && self.refuse_request(received, &reason, &error).await {
                    self.ack(received, &self.counters.dead_lettered, Settled::DeadLettered).await;
                }
            }
            Verdict::Requeue => self.requeue(received).await,
            // Nothing to say to the broker: the consumer keeps it.
            Verdict::RetryHere { .. } => {}
        }
    }

    /// Acks and counts; an ack that cannot be written is work done for nothing: the broker delivers again.
    async fn ack(&self, received: &Received, counter: &AtomicU64, settled: Settled) {
        match self.channel.basic_ack(received.tag, BasicAckOptions::default()).await {
            Ok(()) => {
                count(counter);
                received.settle_as(settled);
            }
            Err(_) => {
                count(&self.counters.work_done_ack_lost);
                received.settle_as(Settled::Lost);
            }
        }
    }

    /// Effectively once: after the work, before the ack.
    pub(crate) async fn remember(&self, received: &Received) {
        if let (Some(seen), Some(claim)) = (&self.seen, received.claim.get()) {
            seen.remember(&claim.key).await;
        }
    }

    async fn requeue(&self, received: &Received) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // When the channel is gone the broker has requeued it already.
        if self.channel.basic_nack(received.tag, options).await.is_ok() {
            count(&self.counters.requeued);
            received.settle_as(Settled::Requeued);
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
    use super::*;
    use crate::consume::{
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
        for outcome in [|| Outcome::Failed(Failure::retry("no")), || Outcome::Crashed] {
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
    fn a_message_that_keeps_killing_its_process_is_given_up_on_arrival() {
        let delivered = |count: i64| {
            let mut table = lapin::types::FieldTable::default();
            table.insert("x-delivery-count".into(), lapin::types::AMQPValue::LongLongInt(count));
            received_with(1, lapin::BasicProperties::default().with_headers(table))
        };
        let arrival = |count| receive(&delivered(count), Guarantee::AtLeastOnce, false);
        assert!(matches!(arrival(19), Arrival::Handle));
        assert!(matches!(arrival(20), Arrival::Settle(Verdict::DeadLetter { .. })));
    }
}
