//! What becomes of a delivery is decided here and nowhere else, for every guarantee: ack, retry, dead letter, or back to the
//! queue. Pure; [`settlement`](crate::consume::settle::settler) carries it out.

use std::{sync::Arc, time::Duration};

use fluffle_wire::{
    Encoded,
    headers::{Attempt, Reason, error_chain},
};

use crate::{
    base::requests::Request,
    consume::{
        attempt::crash::Crash,
        intake::seen,
        message::received::Received,
        queue::handler_queue::Outcome,
        spec::{consume::Guarantee, retry::Retry},
    },
};

/// Why a request was not handled, beside the reasons of dead letters: its handler failed, or crashed, and may not the next time.
pub(crate) const FAILED: &str = "failed";
pub(crate) const CRASHED: &str = "crashed";

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
    /// A request: its asker is told why it was not handled; then ack. No copy is made: only the asker knows whether it still wants
    /// an answer.
    Refuse { reason: Reason, error: String },
    /// A request that nobody waits for any more: ack.
    Expire,
    /// A batch: each item that was not handled has a verdict of its own, its copy goes its own way; then ack.
    Apart(Vec<(usize, Verdict)>),
}

/// Decides. Pure: the same outcome on the same attempt always means the same.
pub(crate) fn decide(outcome: Outcome, received: &Received, retry: &Retry) -> Verdict {
    let contents = received.contents.get();
    let failed = match outcome {
        Outcome::Handled(reply) => return Verdict::Ack(reply),
        Outcome::NotStarted | Outcome::LateItem(..) => return Verdict::Requeue,
        Outcome::Expired => return Verdict::Expire,
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
    // A batch that asks for an answer is refused whole, and kept: its messages are more than a question.
    if let Some(request) = received.request.as_ref().filter(|_| !received.wire().is_batch())
        && let Some(refusal) = refused(request, why, received, retry)
    {
        return refusal;
    }
    let (error, wanted) = match why {
        Outcome::Undecodable(error) => {
            return Verdict::DeadLetter { reason: Reason::Undecodable, error: error_chain(error) };
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

/// What becomes of a request that was not handled, unless the consumer has requests retried and there is time for it. One that
/// cannot be read, or has used up its attempts, is a dead letter as any message is, and its asker is told beside.
fn refused(request: &Request, why: &Outcome, received: &Received, retry: &Retry) -> Option<Verdict> {
    let (reason, error) = refusal(why)?;
    let wanted = match why {
        Outcome::Failed(failure) if failure.is_permanent() => return Some(Verdict::Refuse { reason, error }),
        Outcome::Failed(failure) => failure.wait(),
        _ => None,
    };
    let is_in_time = |wait: Duration| !request.is_over_in(wait);
    match retry.delay_after(received.attempt.get(), wanted) {
        Some(wait) if request.retried && is_in_time(wait) => None,
        None if request.retried => None,
        _ => Some(Verdict::Refuse { reason, error }),
    }
}

/// What whoever asked is told of a request that was acked on receipt, at most once: an answer, or why there is none.
pub(crate) fn told(outcome: Outcome, received: &Received) -> Option<Verdict> {
    received.request?;
    let (reason, error) = match outcome {
        Outcome::Handled(reply) => return reply.map(|reply| Verdict::Ack(Some(reply))),
        Outcome::Undecodable(error) => (Reason::Undecodable, error_chain(&error)),
        failed => refusal(&failed)?,
    };
    Some(Verdict::Refuse { reason, error })
}

/// How a handler that failed or crashed is told to whoever asked; `None` for any other outcome.
fn refusal(why: &Outcome) -> Option<(Reason, String)> {
    match why {
        Outcome::Failed(failure) if failure.is_permanent() => Some((Reason::Rejected, failure.chain())),
        Outcome::Failed(failure) => Some((Reason::parse(FAILED), failure.chain())),
        Outcome::Crashed(crash) => Some((Reason::parse(CRASHED), crash.text())),
        _ => None,
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
    /// Acked and not handled, at most once; with why.
    AckAndDrop(String),
    /// Settled without a handler.
    Settle(Verdict),
}

/// Decides on arrival: what is acked at once, and what never gets to a handler.
pub(crate) fn receive(received: &Received, guarantee: Guarantee, remembers: bool, delivery_limit: u32) -> Arrival {
    if let Some(what) = &received.unreadable {
        let error = format!("its properties cannot be read: {what}");
        return match guarantee {
            Guarantee::AtMostOnce => Arrival::AckAndDrop(error),
            Guarantee::AtLeastOnce => Arrival::Settle(Verdict::DeadLetter { reason: Reason::Undecodable, error }),
        };
    }
    match guarantee {
        // An earlier ack did not get through, and it may have been handled then.
        Guarantee::AtMostOnce if received.redelivered => {
            Arrival::AckAndDrop("delivered again, and possibly handled before".to_owned())
        }
        Guarantee::AtMostOnce => Arrival::AckAndHandle,
        Guarantee::AtLeastOnce => {
            // It never even gets to a handler's answer: it has taken its whole process down, again and again, the last times
            // with nothing else in hand (`quarantine.rs`).
            if !received.in_vain.is_past(delivery_limit) {
                // Without an id it cannot be told from any other: at least once is the best there is.
                let key = if remembers { seen::key(received) } else { None };
                return key.map_or(Arrival::Handle, Arrival::LookUp);
            }
            Arrival::Settle(Verdict::DeadLetter {
                reason: Reason::parse("delivery-limit"),
                error: format!("delivered {} times (x-delivery-count) and never settled", received.in_vain.counted()),
            })
        }
    }
}

/// Decides on what the store of seen messages says: acked, or handed to a handler.
pub(crate) fn looked_up(handled_before: bool) -> Arrival {
    if handled_before { Arrival::Settle(Verdict::Duplicate) } else { Arrival::Handle }
}

#[cfg(test)]
mod tests {
    use fluffle_wire::Wire;

    use super::*;
    use crate::{
        base::failure::Failure,
        consume::{
            attempt::envelope::{Contents, ItemOutcomes},
            message::{deliveries::InVain, received::tests::received},
        },
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
    fn a_body_that_cannot_be_read_says_why_and_why_that() {
        let body = bytes::Bytes::from_static(b"\x0a\x7f");
        let error = Wire::<String>::protobuf().decode(&fluffle_wire::Incoming::unlabelled(&body)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        match decide(Outcome::Undecodable(error), &received(1), &retry()) {
            Verdict::DeadLetter { reason: Reason::Undecodable, error } => assert!(error.contains(&cause), "{error}"),
            other => panic!("{other:?}"),
        }
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
        let delivered = |count| {
            let mut received = received(1);
            received.in_vain = InVain::times(count);
            received
        };
        let arrival = |count| receive(&delivered(count), Guarantee::AtLeastOnce, false, 20);
        assert!(matches!(arrival(19), Arrival::Handle));
        assert!(matches!(arrival(20), Arrival::Settle(Verdict::DeadLetter { .. })));
    }

    #[test]
    fn what_cannot_be_read_never_gets_to_a_handler() {
        let mut unreadable = received(1);
        unreadable.unreadable = Some("correlation_id: not UTF-8".into());
        let arrival = |guarantee| receive(&unreadable, guarantee, true, 20);
        match arrival(Guarantee::AtLeastOnce) {
            Arrival::Settle(Verdict::DeadLetter { reason: Reason::Undecodable, error }) => {
                assert_eq!(error, "its properties cannot be read: correlation_id: not UTF-8");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(arrival(Guarantee::AtMostOnce), Arrival::AckAndDrop(why) if why.contains("correlation_id")));
    }

    fn request(retried: bool, expires_in: Option<Duration>) -> Received {
        let expires = expires_in.map(|left| std::time::Instant::now() + left);
        let mut received = received(1);
        received.request = Some(Request { expires, retried });
        received
    }

    #[test]
    fn a_request_that_fails_is_answered_and_not_repeated() {
        for (outcome, why) in [
            (Outcome::Failed(Failure::retry("away")), FAILED),
            (Outcome::Crashed(Crash::default()), CRASHED),
            (Outcome::Failed(Failure::reject("no")), "rejected"),
        ] {
            let verdict = decide(outcome, &request(false, None), &retry());
            assert!(matches!(&verdict, Verdict::Refuse { reason, .. } if reason.as_str() == why), "{verdict:?}");
        }
        assert!(matches!(decide(Outcome::Expired, &request(false, None), &retry()), Verdict::Expire));
        assert!(matches!(decide(Outcome::NotStarted, &request(false, None), &retry()), Verdict::Requeue));
    }

    #[test]
    fn a_request_is_retried_where_the_consumer_says_so_and_its_asker_still_waits() {
        let fails = |expires_in| decide(Outcome::Failed(Failure::retry("away")), &request(true, expires_in), &retry());
        assert!(matches!(fails(None), Verdict::Retry { .. }));
        assert!(matches!(fails(Some(Duration::from_secs(60))), Verdict::Retry { .. }));
        assert!(matches!(fails(Some(Duration::from_millis(500))), Verdict::Refuse { .. }), "its wait is a second");
        let rejected = decide(Outcome::Failed(Failure::reject("no")), &request(true, None), &retry());
        assert!(matches!(rejected, Verdict::Refuse { reason: Reason::Rejected, .. }));
    }
}
