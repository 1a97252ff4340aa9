//! Why a queue is as fast as it is, in words: decided here and nowhere else.

/// What was seen of a queue's consumers in the last seconds. Times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// Deliveries received a second.
    pub(crate) received: f64,
    /// Messages settled a second.
    pub(crate) settled: f64,
    /// Messages a second whose attempt failed.
    pub(crate) failed: f64,
    /// Messages in the hand of handlers that crashed in the last minute.
    pub(crate) crashed: u64,
    /// Deliveries in hand, and how many may be.
    pub(crate) in_hand: usize,
    pub(crate) prefetch: usize,
    /// Deliveries in hand that wait for a handler.
    pub(crate) waiting: usize,
    /// Handler actors.
    pub(crate) handlers: usize,
    /// Messages that are with handlers at a time, on average: the time of attempts by the time of the clock.
    pub(crate) at_work: f64,
    /// How many one handler may have in hand.
    pub(crate) concurrency: usize,
    /// Medians, if any message passed.
    pub(crate) broker_wait: Option<f64>,
    pub(crate) handle: Option<f64>,
    pub(crate) settle: Option<f64>,
    /// How late the latest handler's thread is.
    pub(crate) lag: f64,
}

/// What the consumers are doing; the worst, if they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    #[default]
    Consuming,
    Probing,
    Paused,
    Isolating,
    Away,
    BreakerOpen,
    Killed,
}

/// The kind of a verdict, its words, and the setting to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kind: &'static str,
    pub(crate) words: String,
    pub(crate) advice: Option<String>,
}

fn verdict(kind: &'static str, words: impl Into<String>, advice: impl Into<String>) -> Verdict {
    let advice = advice.into();
    Verdict { kind, words: words.into(), advice: (!advice.is_empty()).then_some(advice) }
}

/// The verdict on a queue. What stops it comes first, then what slows it, in the order in which one hides the other.
pub(crate) fn of(seen: &Seen) -> Verdict {
    stopped(seen).or_else(|| slow(seen)).unwrap_or_else(|| flows(seen))
}

fn stopped(seen: &Seen) -> Option<Verdict> {
    Some(match seen.state {
        State::Killed => verdict(
            "killed",
            "The kill switch has stopped this consumer, because too many of its messages failed.",
            "Look at the failed messages below, mend their cause, then restart the service.",
        ),
        State::BreakerOpen => verdict(
            "breaker-open",
            "The circuit breaker is open: what the handler needs has failed too often. Messages wait in the queue, \
             none is lost.",
            "Mend what the handler depends on. The breaker tries again by itself.",
        ),
        State::Away => verdict(
            "away",
            "It is not subscribed: its channel or connection is lost or not open yet.",
            "Look at the connections and at the consumer's node in the tree for the reason.",
        ),
        State::Isolating => verdict(
            "poison",
            "A message may have ended this process, so messages are taken one at a time until it is found.",
            "Nothing needs to be done: past the delivery limit the message becomes a dead letter.",
        ),
        State::Paused => verdict("paused", "The application has paused this consumer.", "Resume it when it may go on."),
        State::Probing => verdict("probing", "The circuit breaker is half-open: a few messages are tried.", ""),
        State::Consuming if seen.crashed >= CRASHES && seen.settled < f64::from(u8::try_from(CRASHES).unwrap_or(3)) => {
            verdict(
                "poison",
                format!(
                    "Handlers crashed with {} messages in hand in the last minute, and little else is handled.",
                    seen.crashed
                ),
                "Look at the last exit of the handler's node and at the failed messages: the handler panics on one of \
                 them.",
            )
        }
        State::Consuming => return None,
    })
}

/// Crashes in a minute from which on they are said to be the matter.
const CRASHES: u64 = 3;

fn slow(seen: &Seen) -> Option<Verdict> {
    let most = (seen.handlers * seen.concurrency.max(1)).min(seen.prefetch).max(1);
    let used = seen.at_work / to_f64(most);
    let is_full = seen.prefetch > 0 && to_f64(seen.in_hand) >= 0.9 * to_f64(seen.prefetch);
    let (handle, settle) = (seen.handle.unwrap_or(0.0), seen.settle.unwrap_or(0.0));
    if seen.lag > 0.1 {
        return Some(verdict(
            "handler-bound",
            format!("A handler blocks its thread: what the thread is given runs {} late.", time(seen.lag)),
            "Set `blocking()` on the consumer, or move the blocking work to a thread pool (`actix::web::block`, \
             `tokio::task::spawn_blocking`).",
        ));
    }
    if used >= 0.8 && (seen.waiting > 0 || is_full) {
        let rate = to_f64(most) / handle.max(1e-9);
        return Some(verdict(
            "handler-bound",
            format!(
                "Handlers are busy {:.0} % of the time, {} deliveries wait for them; a message takes them {}, so {} of \
                 them do at most {} a second.",
                (used * 100.0).min(100.0),
                seen.waiting,
                time(handle),
                most,
                rounded(rate),
            ),
            "More `instances`, more processes, or a faster handler.",
        ));
    }
    if is_full && settle > handle && settle > 0.002 {
        return Some(verdict(
            "ack-bound",
            format!(
                "{} of {} deliveries are in hand, and settling one takes {}, longer than handling it ({}): acks wait \
                 for the confirms of copies, or for the broker.",
                seen.in_hand,
                seen.prefetch,
                time(settle),
                time(handle),
            ),
            "A larger `prefetch` lets more be settled at a time; if most messages fail, mend that first.",
        ));
    }
    if is_full && seen.waiting == 0 && used < 0.8 {
        return Some(verdict(
            "prefetch-starved",
            format!(
                "All {} deliveries that the prefetch allows are in hand, and handlers are busy only {:.0} % of \
                 the time.",
                seen.prefetch,
                used * 100.0,
            ),
            format!("A larger `prefetch`, for example {}.", (seen.prefetch * 2).next_power_of_two()),
        ));
    }
    let broker_wait = seen.broker_wait.unwrap_or(0.0);
    if seen.received > 0.0 && broker_wait > 0.1 && !is_full && used < 0.5 {
        return Some(verdict(
            "broker-bound",
            format!(
                "Messages are {} old when they arrive, while handlers are busy {:.0} % of the time and {} of {} \
                 deliveries are in hand: the broker delivers more slowly than this process handles.",
                time(broker_wait),
                used * 100.0,
                seen.in_hand,
                seen.prefetch,
            ),
            "Look at the broker: disk, memory alarms, replication; or spread the queue (`Topology::partitions`).",
        ));
    }
    (seen.failed > 0.5 * (seen.settled.max(seen.failed))).then(|| {
        verdict(
            "failing",
            format!("{} of {} messages a second fail.", rounded(seen.failed), rounded(seen.settled.max(seen.failed))),
            "Look at the failed messages below.",
        )
    })
}

fn flows(seen: &Seen) -> Verdict {
    if seen.received == 0.0 && seen.settled == 0.0 && seen.in_hand == 0 {
        return verdict("idle", "No message came in the last seconds.", "");
    }
    let handle = seen.handle.map_or_else(String::new, |handle| format!(", {} each", time(handle)));
    verdict("healthy", format!("Handles what comes: {} messages a second{handle}.", rounded(seen.settled)), "")
}

#[allow(clippy::cast_precision_loss, reason = "numbers of messages for a sentence")]
fn to_f64(number: usize) -> f64 {
    number as f64
}

/// A time that a person reads.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 90.0 => format!("{:.0} min", s / 60.0),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.001 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

fn rounded(rate: f64) -> String {
    match rate {
        r if r >= 10_000.0 => format!("{:.0} 000", r / 1e3),
        r if r >= 10.0 => format!("{r:.0}"),
        r => format!("{r:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Seen {
        Seen {
            received: 100.0,
            settled: 100.0,
            prefetch: 100,
            handlers: 2,
            concurrency: 1,
            handle: Some(0.005),
            settle: Some(0.001),
            ..Seen::default()
        }
    }

    #[test]
    fn each_way_to_be_slow_has_its_verdict() {
        let seen = [
            ("idle", Seen { received: 0.0, settled: 0.0, handle: None, ..busy() }),
            ("healthy", Seen { at_work: 0.5, in_hand: 3, ..busy() }),
            ("handler-bound", Seen { at_work: 1.9, in_hand: 100, waiting: 98, ..busy() }),
            ("handler-bound", Seen { at_work: 0.1, lag: 0.4, ..busy() }),
            ("ack-bound", Seen { at_work: 0.5, in_hand: 100, settle: Some(0.2), ..busy() }),
            ("prefetch-starved", Seen { at_work: 0.5, in_hand: 99, concurrency: 100, ..busy() }),
            ("broker-bound", Seen { at_work: 0.2, in_hand: 1, broker_wait: Some(3.0), ..busy() }),
            ("failing", Seen { at_work: 0.2, in_hand: 1, failed: 80.0, ..busy() }),
            ("poison", Seen { crashed: 5, settled: 0.2, ..busy() }),
            ("poison", Seen { state: State::Isolating, ..busy() }),
            ("breaker-open", Seen { state: State::BreakerOpen, ..busy() }),
            ("killed", Seen { state: State::Killed, ..busy() }),
            ("paused", Seen { state: State::Paused, ..busy() }),
            ("probing", Seen { state: State::Probing, ..busy() }),
            ("away", Seen { state: State::Away, ..busy() }),
        ];
        for (kind, seen) in seen {
            assert_eq!(of(&seen).kind, kind, "{seen:?}");
        }
    }

    #[test]
    fn a_verdict_has_its_numbers_and_a_setting_to_try() {
        let verdict = of(&Seen { at_work: 1.9, in_hand: 100, waiting: 98, ..busy() });
        assert_eq!(
            verdict.words,
            "Handlers are busy 95 % of the time, 98 deliveries wait for them; a message takes them 5 ms, so 2 of them \
             do at most 400 a second."
        );
        assert_eq!(verdict.advice.unwrap(), "More `instances`, more processes, or a faster handler.");
    }
}
