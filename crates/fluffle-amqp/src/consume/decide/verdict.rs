//! Decides what becomes of a delivery, on arrival and after its handler, for every guarantee. No other module decides
//! that.
//!
//! All functions are pure: the same facts always give the same verdict. `settle/` carries out the verdicts.

use std::{sync::Arc, time::Duration};

use fluffle_wire::{
    DecodeErrorKind, Encoded,
    headers::{Attempt as AttemptNumber, Reason, error_chain},
};

use crate::{
    base::requests::Request,
    consume::{
        attempt::{
            attempt::Attempt,
            crash::Crash,
            outcome::{ItemOutcomes, Outcome},
        },
        message::received::Received,
        spec::{guarantee::Guarantee, retry::Retry},
    },
};

/// The reasons that a requester is told if the handler of its request failed or crashed. They are used in addition to
/// the reasons of dead letters.
pub(crate) const FAILED: &str = "failed";
pub(crate) const CRASHED: &str = "crashed";

/// The reason of a dead letter that was delivered too often without being settled.
const DELIVERY_LIMIT: &str = "delivery-limit";

/// The settings of a consumer that verdicts depend on.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) guarantee: Guarantee,
    pub(crate) retry: Retry,
    /// How often a message may be delivered without being settled.
    pub(crate) delivery_limit: u32,
    /// Whether a message of another type is acked and not handled. Otherwise it is undecodable.
    pub(crate) skips_other_types: bool,
    /// The messages come from a stream, which takes nothing back: `basic.nack` with requeue is an ack there.
    pub(crate) is_stream: bool,
}

impl Rules {
    /// Whether a delivery is acked when it arrives, before it is handled.
    pub(crate) fn acks_on_arrival(&self) -> bool {
        self.guarantee == Guarantee::AtMostOnce
    }

    /// Why the message is skipped, if it is. A request never is, because its sender waits for an answer.
    fn skips(&self, outcome: &Outcome, message: &Received) -> Option<String> {
        match outcome {
            Outcome::Undecodable(error)
                if self.skips_other_types && error.kind() == DecodeErrorKind::TypeName && !message.wants_reply() =>
            {
                Some(error_chain(error))
            }
            _ => None,
        }
    }
}

/// What is done with one delivery.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Handled: send the answer, if there is one, then ack.
    Ack(Option<Encoded>),
    /// Publish a copy to the retry queue for `delay`, from which it returns after `wait` as attempt `attempt`; then
    /// ack.
    Retry { delay: Duration, wait: Duration, attempt: AttemptNumber, error: String },
    /// Keep it here, unacked, and begin attempt `attempt` after `wait`.
    RetryHere { wait: Duration, attempt: AttemptNumber, error: String },
    /// Publish a copy to the dead-letter queue, then ack.
    DeadLetter { reason: Reason, error: String },
    /// No handler began it: `basic.nack` with requeue.
    Requeue,
    /// No handler began it, and its channel is about to be closed: send nothing. Closing the channel puts it back to
    /// its old position in the queue, whereas `basic.nack` may put it behind the others. A stream is read again from
    /// this message on.
    Leave,
    /// The store knows it as handled: ack.
    Duplicate,
    /// The message is of a type that the consumer skips: ack.
    Skip { error: String },
    /// A request: tell its requester why it was not handled, then ack. There is no copy, because only the requester
    /// knows whether it still wants an answer.
    Refuse { reason: Reason, error: String },
    /// A request whose requester has stopped waiting: ack.
    Expire,
    /// With `AtMostOnce`, where it is acked already: count it as not handled. If `refusal` is set, tell the requester
    /// that reason.
    Drop { error: String, refusal: Option<Reason> },
    /// A batch. Each item that was not handled has a verdict of its own. When all of them are carried out, ack.
    Apart(Vec<(usize, Verdict)>),
}

impl Verdict {
    /// Whether a delivery of so many messages ends as a dead letter, as most of its messages do. `None`: it has not
    /// ended yet, or no handler was at fault.
    pub(crate) fn ends_dead(&self, messages: usize) -> Option<bool> {
        match self {
            Verdict::Ack(_) | Verdict::Refuse { .. } => Some(false),
            Verdict::DeadLetter { .. } => Some(true),
            Verdict::Apart(copies) => {
                let is_dead = |(_, verdict): &&(usize, Verdict)| matches!(verdict, Verdict::DeadLetter { .. });
                Some(copies.iter().filter(is_dead).count() * 2 > messages)
            }
            Verdict::Retry { .. }
            | Verdict::RetryHere { .. }
            | Verdict::Requeue
            | Verdict::Leave
            | Verdict::Duplicate
            | Verdict::Skip { .. }
            | Verdict::Drop { .. }
            | Verdict::Expire => None,
        }
    }
}

/// What is done with a delivery before any handler sees it.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Give it to a handler, whose answer decides.
    Handle,
    /// Settle it without a handler.
    Settle(Verdict),
}

/// Decides whether a delivery that has arrived goes to a handler.
pub(crate) fn on_arrival(message: &Received, rules: &Rules) -> Arrival {
    let unreadable = message.unreadable.as_ref().map(|what| format!("its properties cannot be read: {what}"));
    match (rules.guarantee, unreadable) {
        (Guarantee::AtMostOnce, Some(error)) => Arrival::Settle(Verdict::Drop { error, refusal: None }),
        // The ack of an earlier delivery did not reach the broker, so the message may have been handled then.
        (Guarantee::AtMostOnce, None) if message.redelivered => {
            let error = "delivered again, and possibly handled before".to_owned();
            Arrival::Settle(Verdict::Drop { error, refusal: None })
        }
        (Guarantee::AtMostOnce, None) => Arrival::Handle,
        (Guarantee::AtLeastOnce, Some(error)) => {
            Arrival::Settle(Verdict::DeadLetter { reason: Reason::Undecodable, error })
        }
        // The message was never answered. It has probably ended its process again and again; the last times, it was
        // handled alone (`session/quarantine.rs`).
        (Guarantee::AtLeastOnce, None) if message.in_vain.is_past(rules.delivery_limit) => {
            let error = format!("delivered {} times (x-delivery-count) and never settled", message.in_vain.counted());
            Arrival::Settle(Verdict::DeadLetter { reason: Reason::parse(DELIVERY_LIMIT), error })
        }
        (Guarantee::AtLeastOnce, None) => Arrival::Handle,
    }
}

/// Decides on a delivery that no handler began and that this consumer does not keep. `channel_closes` says that its
/// channel is about to be closed, which it always is for a stream.
pub(crate) fn not_begun(rules: &Rules, channel_closes: bool) -> Verdict {
    match rules.guarantee {
        Guarantee::AtMostOnce => dropped(&Outcome::NotStarted),
        Guarantee::AtLeastOnce if channel_closes || rules.is_stream => Verdict::Leave,
        Guarantee::AtLeastOnce => Verdict::Requeue,
    }
}

/// Decides on the outcome of an attempt.
pub(crate) fn on_outcome(outcome: Outcome, attempt: &Attempt, rules: &Rules) -> Verdict {
    if let Some(error) = rules.skips(&outcome, attempt) {
        return Verdict::Skip { error };
    }
    match rules.guarantee {
        Guarantee::AtLeastOnce => at_least_once(outcome, attempt, rules),
        Guarantee::AtMostOnce => at_most_once(outcome, attempt, rules),
    }
}

fn at_least_once(outcome: Outcome, attempt: &Attempt, rules: &Rules) -> Verdict {
    let retry = &rules.retry;
    let contents = attempt.contents();
    let failed = match outcome {
        Outcome::Handled(reply) => return Verdict::Ack(reply),
        Outcome::NotStarted | Outcome::LateItem(..) => return Verdict::Requeue,
        Outcome::Expired => return Verdict::Expire,
        // Some items were not begun. The whole batch is delivered again.
        Outcome::Items(items) if contents.is_none_or(|all| !items.is_complete(all.items.len())) => {
            return Verdict::Requeue;
        }
        Outcome::Items(items) => {
            let each = |(index, why): (usize, Arc<Outcome>)| match rules.skips(&why, attempt) {
                Some(error) => (index, Verdict::Skip { error }),
                None => (index, not_handled(&why, attempt, retry)),
            };
            return Verdict::Apart(items.failed.into_iter().map(each).collect());
        }
        failed => failed,
    };
    let verdict = || not_handled(&failed, attempt, retry);
    // If a whole batch failed at once, it is taken apart, so that in the next attempt each message can fail by itself.
    contents.map_or_else(verdict, |all| Verdict::Apart(all.new_items(..).map(|index| (index, verdict())).collect()))
}

fn not_handled(why: &Outcome, message: &Received, retry: &Retry) -> Verdict {
    // A batch that asks for an answer is not refused like a request. It becomes a dead letter, so that no message is
    // lost.
    if let Some(request) = message.request.as_ref().filter(|_| !message.wire().is_batch())
        && let Some(refusal) = refused(request, why, message, retry)
    {
        return refusal;
    }
    let (error, wanted) = match why {
        Outcome::Undecodable(error) => {
            return Verdict::DeadLetter { reason: Reason::Undecodable, error: error_chain(error) };
        }
        Outcome::Unusable(why) => {
            return Verdict::DeadLetter { reason: Reason::Rejected, error: error_chain(why) };
        }
        Outcome::Failed(failure) if failure.is_permanent() => {
            return Verdict::DeadLetter { reason: Reason::Rejected, error: failure.chain() };
        }
        Outcome::Failed(failure) => (failure.chain(), failure.wait()),
        Outcome::Crashed(crash) => (crash.text(), None),
        _ => (Crash::default().text(), None),
    };
    let next = message.attempt_number.next();
    match retry.delay_after(message.attempt_number.get(), wanted) {
        Some(delay) if retry.is_in_process(delay) => {
            Verdict::RetryHere { wait: retry.jittered(delay), attempt: next, error }
        }
        Some(delay) => Verdict::Retry { delay, wait: retry.jittered(delay), attempt: next, error },
        None => Verdict::DeadLetter { reason: Reason::AttemptsExhausted, error },
    }
}

/// Decides on a request that was not handled. `None` if it is treated like any other message:
///
/// - it is retried, if the consumer retries requests and the requester still waits when the wait is over;
/// - it becomes a dead letter and its requester is told, if the consumer retries requests and the attempts are used up,
///   or if the request cannot be decoded.
fn refused(request: &Request, why: &Outcome, message: &Received, retry: &Retry) -> Option<Verdict> {
    let (reason, error) = refusal(why)?;
    let wanted = match why {
        Outcome::Failed(failure) if !failure.is_permanent() => failure.wait(),
        Outcome::Crashed(_) => None,
        _ => return Some(Verdict::Refuse { reason, error }),
    };
    let is_in_time = |wait: Duration| !request.is_over_in(wait);
    match retry.delay_after(message.attempt_number.get(), wanted) {
        Some(wait) if request.retried && is_in_time(wait) => None,
        None if request.retried => None,
        _ => Some(Verdict::Refuse { reason, error }),
    }
}

/// The reason and the error that a requester is told. `None` for outcomes of which it is not told here.
fn refusal(why: &Outcome) -> Option<(Reason, String)> {
    match why {
        Outcome::Failed(failure) if failure.is_permanent() => Some((Reason::Rejected, failure.chain())),
        Outcome::Failed(failure) => Some((Reason::parse(FAILED), failure.chain())),
        Outcome::Crashed(crash) => Some((Reason::parse(CRASHED), crash.text())),
        Outcome::Unusable(why) => Some((Reason::Rejected, error_chain(why))),
        _ => None,
    }
}

fn at_most_once(outcome: Outcome, attempt: &Attempt, rules: &Rules) -> Verdict {
    match outcome {
        Outcome::Handled(reply) => Verdict::Ack(reply),
        Outcome::Expired => Verdict::Expire,
        Outcome::Items(ItemOutcomes { failed, .. }) => {
            let each = |(index, why): (usize, Arc<Outcome>)| match rules.skips(&why, attempt) {
                Some(error) => (index, Verdict::Skip { error }),
                None => (index, dropped(&why)),
            };
            Verdict::Apart(failed.into_iter().map(each).collect())
        }
        failed => dropped(&failed),
    }
}

/// The verdict for a delivery that was not handled, with `AtMostOnce`. The requester of an undecodable request is told
/// too, because there will be no dead letter.
fn dropped(why: &Outcome) -> Verdict {
    let (refusal, error) = match (refusal(why), why) {
        (Some((reason, error)), _) => (Some(reason), error),
        (None, Outcome::Undecodable(error)) => (Some(Reason::Undecodable), error_chain(error)),
        (None, Outcome::NotStarted) => (None, "the consumer ended before a handler was given the message".to_owned()),
        (None, _) => (None, Crash::default().text()),
    };
    Verdict::Drop { error, refusal }
}

/// Decides on a delivery that the store of handled messages has looked up.
pub(crate) fn on_looking_up(handled_before: bool) -> Arrival {
    if handled_before { Arrival::Settle(Verdict::Duplicate) } else { Arrival::Handle }
}

#[cfg(test)]
mod tests {
    use fluffle_wire::Wire;

    use super::*;
    use crate::{
        base::failure::Failure,
        consume::{
            attempt::{
                attempt::tests::{attempt, attempt_at},
                contents::Contents,
            },
            message::deliveries::InVain,
        },
    };

    fn rules(guarantee: Guarantee) -> Rules {
        let retry = Retry::exponential(3, Duration::from_secs(1), 2.0).unwrap();
        Rules { guarantee, retry, delivery_limit: 20, skips_other_types: false, is_stream: false }
    }

    fn decide(outcome: Outcome, attempt: &Attempt) -> Verdict {
        on_outcome(outcome, attempt, &rules(Guarantee::AtLeastOnce))
    }

    #[test]
    fn success_acks_and_an_untouched_message_goes_back() {
        assert!(matches!(decide(Outcome::Handled(None), &attempt(1)), Verdict::Ack(None)));
        assert!(matches!(decide(Outcome::NotStarted, &attempt(1)), Verdict::Requeue));
    }

    #[test]
    fn a_transient_failure_and_a_crash_are_retried_until_the_attempts_are_used_up() {
        for outcome in [|| Outcome::Failed(Failure::retry("no")), || Outcome::Crashed(Crash::default())] {
            for (number, delay) in [(1, 1), (2, 2)] {
                match decide(outcome(), &attempt(number)) {
                    Verdict::Retry { delay: wait, attempt: next, .. } => {
                        assert_eq!((wait, next.get()), (Duration::from_secs(delay), number + 1));
                    }
                    other => panic!("attempt {number}: {other:?}"),
                }
            }
            let last = decide(outcome(), &attempt(3));
            assert!(matches!(last, Verdict::DeadLetter { reason: Reason::AttemptsExhausted, .. }), "{last:?}");
        }
    }

    #[test]
    fn a_rejection_is_dead_lettered_at_once() {
        let verdict = decide(Outcome::Failed(Failure::reject("never")), &attempt(1));
        assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::Rejected, .. }), "{verdict:?}");
    }

    #[test]
    fn a_body_that_cannot_be_read_says_why_and_why_that() {
        let body = bytes::Bytes::from_static(b"\x0a\x7f");
        let error = Wire::<String>::protobuf().decode(&fluffle_wire::Incoming::unlabelled(&body)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        match decide(Outcome::Undecodable(error), &attempt(1)) {
            Verdict::DeadLetter { reason: Reason::Undecodable, error } => assert!(error.contains(&cause), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_some_of_whose_items_were_not_begun_goes_back_whole() {
        let (batch, wire) = (attempt(1), Wire::<String>::protobuf());
        let sent = wire.encode_batch(&["a", "b", "c"].map(str::to_owned)).unwrap();
        batch.open(Contents::new(
            wire.decode_batch(&sent.incoming()).unwrap().raw_items(),
            fluffle_wire::headers::ItemTypes::default(),
            "",
        ));
        let after = |until| decide(Outcome::Items(ItemOutcomes { until, failed: Vec::new() }), &batch);
        assert!(matches!(after(2), Verdict::Requeue));
        assert!(matches!(after(3), Verdict::Apart(failed) if failed.is_empty()));
    }

    #[test]
    fn a_message_that_keeps_killing_its_process_is_given_up_on_arrival() {
        let arrival = |count| {
            let message =
                attempt_at(lapin::BasicProperties::default(), |message| message.in_vain = InVain::times(count));
            on_arrival(&message, &rules(Guarantee::AtLeastOnce))
        };
        assert!(matches!(arrival(19), Arrival::Handle));
        assert!(matches!(arrival(20), Arrival::Settle(Verdict::DeadLetter { .. })));
    }

    #[test]
    fn what_cannot_be_read_never_gets_to_a_handler() {
        let unreadable = attempt_at(lapin::BasicProperties::default(), |message| {
            message.unreadable = Some("correlation_id: not UTF-8".into());
        });
        match on_arrival(&unreadable, &rules(Guarantee::AtLeastOnce)) {
            Arrival::Settle(Verdict::DeadLetter { reason: Reason::Undecodable, error }) => {
                assert_eq!(error, "its properties cannot be read: correlation_id: not UTF-8");
            }
            other => panic!("{other:?}"),
        }
        match on_arrival(&unreadable, &rules(Guarantee::AtMostOnce)) {
            Arrival::Settle(Verdict::Drop { error, refusal: None }) => assert!(error.contains("correlation_id")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn at_most_once_what_comes_again_is_dropped_and_what_comes_first_is_handled() {
        let arrival = |redelivered| {
            let message = attempt_at(lapin::BasicProperties::default(), |message| message.redelivered = redelivered);
            on_arrival(&message, &rules(Guarantee::AtMostOnce))
        };
        assert!(matches!(arrival(false), Arrival::Handle));
        assert!(matches!(arrival(true), Arrival::Settle(Verdict::Drop { refusal: None, .. })));
    }

    #[test]
    fn at_most_once_nothing_is_retried_and_a_requester_is_told() {
        let decide = |outcome| on_outcome(outcome, &attempt(1), &rules(Guarantee::AtMostOnce));
        assert!(matches!(decide(Outcome::Handled(None)), Verdict::Ack(None)));
        assert!(matches!(decide(Outcome::NotStarted), Verdict::Drop { refusal: None, .. }));
        for (outcome, why) in [
            (Outcome::Failed(Failure::retry("away")), FAILED),
            (Outcome::Crashed(Crash::default()), CRASHED),
            (Outcome::Failed(Failure::reject("no")), "rejected"),
        ] {
            let verdict = decide(outcome);
            let is_told = matches!(&verdict, Verdict::Drop { refusal: Some(reason), .. } if reason.as_str() == why);
            assert!(is_told, "{verdict:?}");
        }
    }

    #[test]
    fn what_nobody_began_goes_back_the_way_that_keeps_its_place() {
        assert!(matches!(not_begun(&rules(Guarantee::AtLeastOnce), false), Verdict::Requeue));
        assert!(matches!(not_begun(&rules(Guarantee::AtLeastOnce), true), Verdict::Leave));
        assert!(matches!(not_begun(&rules(Guarantee::AtMostOnce), true), Verdict::Drop { .. }));
    }

    fn request(retried: bool, expires_in: Option<Duration>) -> Attempt {
        let expires = expires_in.map(|left| std::time::Instant::now() + left);
        attempt_at(lapin::BasicProperties::default(), |message| message.request = Some(Request { expires, retried }))
    }

    #[test]
    fn a_request_that_fails_is_answered_and_not_repeated() {
        for (outcome, why) in [
            (Outcome::Failed(Failure::retry("away")), FAILED),
            (Outcome::Crashed(Crash::default()), CRASHED),
            (Outcome::Failed(Failure::reject("no")), "rejected"),
        ] {
            let verdict = decide(outcome, &request(false, None));
            assert!(matches!(&verdict, Verdict::Refuse { reason, .. } if reason.as_str() == why), "{verdict:?}");
        }
        assert!(matches!(decide(Outcome::Expired, &request(false, None)), Verdict::Expire));
        assert!(matches!(decide(Outcome::NotStarted, &request(false, None)), Verdict::Requeue));
    }

    #[test]
    fn a_request_is_retried_where_the_consumer_says_so_and_its_asker_still_waits() {
        let fails = |expires_in| decide(Outcome::Failed(Failure::retry("away")), &request(true, expires_in));
        assert!(matches!(fails(None), Verdict::Retry { .. }));
        assert!(matches!(fails(Some(Duration::from_secs(60))), Verdict::Retry { .. }));
        assert!(matches!(fails(Some(Duration::from_millis(500))), Verdict::Refuse { .. }), "the wait would be 1 s");
        let rejected = decide(Outcome::Failed(Failure::reject("no")), &request(true, None));
        assert!(matches!(rejected, Verdict::Refuse { reason: Reason::Rejected, .. }));
    }

    #[test]
    fn a_message_of_another_type_is_skipped_only_if_the_consumer_says_so_and_nobody_waits_for_an_answer() {
        let skipping = Rules { skips_other_types: true, ..rules(Guarantee::AtLeastOnce) };
        let other = |type_name| {
            let body = bytes::Bytes::new();
            let labelled = fluffle_wire::Incoming { type_name, ..fluffle_wire::Incoming::unlabelled(&body) };
            Outcome::Undecodable(Wire::<u32>::protobuf().decode(&labelled).unwrap_err())
        };
        let verdict = on_outcome(other(Some("shop.Order")), &attempt(1), &skipping);
        assert!(matches!(&verdict, Verdict::Skip { error } if error.contains("shop.Order")), "{verdict:?}");
        let dropped = Rules { guarantee: Guarantee::AtMostOnce, ..skipping.clone() };
        assert!(matches!(on_outcome(other(Some("shop.Order")), &attempt(1), &dropped), Verdict::Skip { .. }));
        let verdict = decide(other(Some("shop.Order")), &attempt(1));
        assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::Undecodable, .. }), "{verdict:?}");
        let request = on_outcome(other(Some("shop.Order")), &request(false, None), &skipping);
        assert!(!matches!(request, Verdict::Skip { .. }), "{request:?}");
    }
}
