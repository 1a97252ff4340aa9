//! What becomes of a delivery is decided here and nowhere else: ack, retry, dead letter, or back to the queue.
//!
//! The order is always: publish the copy, have it confirmed *and* routed, then ack the original. A crash between
//! the two gives a duplicate, never a loss. A copy that cannot be placed keeps its original unacked and is tried again.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use fluffle_supervise::SupervisedAddr;
use fluffle_wire::{
    Encoded,
    headers::{Attempt, Reason},
};
use lapin::options::BasicNackOptions;
use tokio::time::sleep;

use crate::{
    connection::{ConnectionActor, Declare, OPERATION_TIMEOUT},
    consume::{
        copy,
        lane::Outcome,
        received::{Received, Settled},
        retry::Retry,
        seen::{self, Seen},
        spec::Guarantee,
        stats::{Counters, count},
    },
    publish::{
        message::Prepared,
        outbox::{self, Outbox},
    },
};

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
    /// What it counts as, once its ack is written, which is all that is left to do.
    done: Option<(Counter, Settled)>,
}

type Counter = fn(&Counters) -> &AtomicU64;

impl Settling {
    /// Whether `verdict` takes nothing but its ack; that is all that is left to do then.
    pub(crate) fn at_once(&mut self, verdict: &Verdict) -> bool {
        let asked = self.received.wants_reply();
        self.done = match verdict {
            Verdict::Ack(reply) if self.received.claim.get().is_none() && !(asked && reply.is_some()) => {
                Some((|counters| &counters.handled, Settled::Acked))
            }
            Verdict::Duplicate => {
                tracing::debug!(
                    queue = %self.received.queue, message_id = self.received.message_id().unwrap_or("-"),
                    "handled before: acked and not handled again"
                );
                Some((|counters| &counters.duplicates, Settled::Acked))
            }
            _ => None,
        };
        self.done.is_some()
    }

    fn done(mut self, counter: Counter, settled: Settled) -> Step {
        self.done = Some((counter, settled));
        Step::Ack(self)
    }

    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    /// Its ack is written.
    pub(crate) fn acked(mut self) {
        if let Some((counter, settled)) = self.done.take() {
            count(counter(&self.counters));
            self.received.settle_as(settled);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if self.done.is_some() {
            // The work is done and the ack is not: the broker delivers again.
            count(&self.counters.work_done_ack_lost);
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
        Settling { received, counters: Arc::clone(&self.counters), done: None }
    }

    /// Settles one delivery, up to its ack. Dropped before it is done, the delivery stays unacked and the broker delivers it
    /// again.
    pub(crate) async fn settle(&self, settling: Settling, verdict: Verdict) -> Step {
        let received = &*settling.received;
        match verdict {
            Verdict::Ack(reply) => {
                self.remember(received).await;
                if self.answer(received, reply).await {
                    return settling.done(|counters| &counters.handled, Settled::Acked);
                }
            }
            Verdict::Retry { delay, wait, attempt, error } => {
                tracing::warn!(
                    queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
                    attempt = received.attempt.get(), ?wait, %error, "not handled: retry"
                );
                let queue = retry_queue(&self.retry_queue, delay);
                if self.place(copy::retry(received, &queue, attempt, wait, &error)).await {
                    return settling.done(|counters| &counters.retried, Settled::Retried);
                }
            }
            Verdict::DeadLetter { reason, error } => {
                tracing::error!(
                    queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
                    attempt = received.attempt.get(), reason = reason.as_str(), %error, "not handled: dead letter"
                );
                let placed = self.place(copy::dead_letter(received, &self.dead_letter_queue, &reason, &error)).await;
                if placed && self.refuse_request(received, &reason, &error).await {
                    return settling.done(|counters| &counters.dead_lettered, Settled::DeadLettered);
                }
            }
            Verdict::Requeue => return self.requeue(received).await,
            // Nothing to say to the broker: the consumer keeps it, or its ack is all it takes.
            Verdict::RetryHere { .. } | Verdict::Duplicate => {}
        }
        Step::Over
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
        let arrival = |count| receive(&delivered(count), Guarantee::AtLeastOnce, false, 20);
        assert!(matches!(arrival(19), Arrival::Handle));
        assert!(matches!(arrival(20), Arrival::Settle(Verdict::DeadLetter { .. })));
    }
}
