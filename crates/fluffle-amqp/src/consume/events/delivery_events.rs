//! The events of one consumer, at the points where they are decided.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use fluffle_wire::headers::Attempt as AttemptNumber;

use crate::{
    base::{
        attempt_report::{AttemptListeners, AttemptReport},
        consumer_state::ConsumerState,
        events::{DeliveryEvent, SettledMessages},
        observer::Listeners,
        published::{self, Published},
    },
    consume::{
        attempt::{attempt::Attempt, outcome::Outcome},
        events::stats::{ConsumerCounters, ConsumerStats},
        message::{received::Received, settled::Settled},
    },
};

/// Counts the events of one consumer and passes them on to its listeners. Without listeners an event costs the addition
/// to its counter, and no event reads the clock.
#[derive(Default)]
pub(crate) struct DeliveryEvents {
    counters: ConsumerCounters,
    listeners: Listeners<DeliveryEvent>,
    attempts: AttemptListeners,
    /// Deliveries received on the present channel and not settled. Only that channel's session writes it.
    unsettled: AtomicUsize,
    /// Deliveries that the last channel left unsettled, until the next one is in use.
    left: AtomicUsize,
    /// Deliveries that the broker had delivered before, in all.
    redelivered: AtomicU64,
}

impl DeliveryEvents {
    /// Whoever hears of attempts must hear of events too, because only then the times of an attempt are taken.
    pub(crate) fn new(listeners: Listeners<DeliveryEvent>, attempts: AttemptListeners) -> Self {
        Self { listeners, attempts, ..Self::default() }
    }

    pub(crate) fn stats(&self, state: ConsumerState) -> ConsumerStats {
        self.counters.read(state)
    }

    /// Deliveries received and not settled.
    pub(crate) fn in_hand(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Deliveries received and not settled on the present channel, or on the last one if there is none.
    pub(crate) fn unacked(&self) -> usize {
        self.in_hand() + self.left.load(Ordering::Relaxed)
    }

    /// Deliveries that the broker had delivered before, to whomever.
    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered.load(Ordering::Relaxed)
    }

    /// A channel is in use from now on.
    pub(crate) fn next_channel(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn emit(&self, event: DeliveryEvent) {
        self.counters.count(&event);
        self.listeners.tell(&event);
    }

    pub(crate) fn received(&self, message: &Received) {
        self.set_unsettled(|unsettled| unsettled + 1);
        if message.redelivered {
            self.redelivered.fetch_add(1, Ordering::Relaxed);
        }
        let (mut since_publish, mut retry_wait) = (None, None);
        if self.listeners.is_heard() {
            match message.retried_at() {
                Some(retried_at) => retry_wait = Some(published::since(retried_at)),
                None if message.attempt_number == AttemptNumber::FIRST => {
                    let published = Published::read(&message.properties).filter(|published| published.is_precise);
                    since_publish = published.map(Published::since);
                }
                None => {}
            }
        }
        let (bytes, redelivered) = (message.body.len(), message.redelivered);
        self.emit(DeliveryEvent::Received { bytes, redelivered, since_publish, retry_wait });
    }

    /// A handler takes the delivery, which was decoded from `decoded_from` on. The first call counts.
    pub(crate) fn started(&self, attempt: &Attempt, decoded_from: Option<Instant>) {
        if self.listeners.is_heard()
            && let Some(started) = attempt.tell_start()
        {
            let waited = started.saturating_duration_since(attempt.at);
            let decode = decoded_from.map(|from| started.saturating_duration_since(from));
            self.listeners.tell(&DeliveryEvent::Started { waited, again: attempt.is_again, decode });
        }
    }

    /// Handlers crashed, perhaps, with messages of an attempt in hand.
    pub(crate) fn crashes(&self, outcome: &Outcome) {
        let messages = outcome.crashes();
        if messages > 0 {
            self.emit(DeliveryEvent::Crashed { messages });
        }
    }

    /// The attempt has its answer, or has had its time. Says nothing of an attempt that no handler has begun.
    pub(crate) fn answered(&self, attempt: &Attempt, outcome: &Outcome) {
        if !self.listeners.is_heard() {
            return;
        }
        attempt.answer();
        if let Some((started, took)) = attempt.answered() {
            let (messages, failed) = (attempt.messages(), outcome.failures());
            self.listeners.tell(&DeliveryEvent::Answered { took, messages, failed });
            if self.attempts.is_heard() {
                self.attempts.tell(&AttemptReport {
                    message_id: attempt.message_id(),
                    type_name: attempt.wire().type_name,
                    attempt: attempt.attempt_number.get(),
                    body: &attempt.body,
                    messages,
                    failed,
                    crashed: outcome.crashes() > 0,
                    waited: started.saturating_duration_since(attempt.at),
                    took,
                    failure: &|| outcome.failure(),
                    trace: &|| attempt.trace(),
                });
            }
        }
    }

    /// The delivery is settled, and its channel knows.
    pub(crate) fn settled(&self, attempt: &Attempt, messages: SettledMessages) {
        self.set_unsettled(|unsettled| unsettled.saturating_sub(1));
        self.counters.settled(&messages);
        if self.listeners.is_heard() {
            let now = Instant::now();
            let took = now.saturating_duration_since(attempt.at);
            let after_answer =
                attempt.answered().map(|(started, after)| now.saturating_duration_since(started + after));
            let age = Published::read(&attempt.properties).map(Published::since);
            self.listeners.tell(&DeliveryEvent::Settled { messages, took, after_answer, age });
        }
    }

    /// The channel is over: what was not settled on it is not this consumer's any more.
    pub(crate) fn lost_channel(&self) {
        let deliveries = self.unsettled.load(Ordering::Relaxed);
        if deliveries > 0 {
            self.set_unsettled(|_| 0);
            self.left.store(deliveries, Ordering::Relaxed);
            self.emit(DeliveryEvent::Lost { deliveries });
        }
    }

    /// One writer at a time, so that a load and a store do, which are cheaper than an atomic addition.
    fn set_unsettled(&self, change: impl FnOnce(usize) -> usize) {
        self.unsettled.store(change(self.unsettled.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

/// One message that is handled.
pub(crate) const HANDLED: SettledMessages = SettledMessages {
    handled: 1,
    retried: 0,
    dead_lettered: 0,
    requeued: 0,
    dropped: 0,
    duplicates: 0,
    refused: 0,
    expired: 0,
    skipped: 0,
};

/// One message that was not handled.
pub(crate) fn not_handled(settled: Settled) -> SettledMessages {
    let count = |what| usize::from(settled == what);
    SettledMessages {
        retried: count(Settled::Retried),
        dead_lettered: count(Settled::DeadLettered),
        requeued: count(Settled::Requeued),
        dropped: count(Settled::Dropped),
        refused: count(Settled::Refused),
        expired: count(Settled::Expired),
        skipped: count(Settled::Skipped),
        ..SettledMessages::default()
    }
}

/// A batch whose items were handled, except these.
pub(crate) fn batch(attempt: &Attempt, not_acked: &[(usize, Settled)]) -> SettledMessages {
    let Some(contents) = attempt.contents() else { return SettledMessages::default() };
    let count = |what| not_acked.iter().filter(|(_, settled)| *settled == what).count();
    let duplicates = contents.items.len() - contents.new_items(..).count();
    SettledMessages {
        handled: contents.items.len() - duplicates - not_acked.len(),
        retried: count(Settled::Retried),
        dead_lettered: count(Settled::DeadLettered),
        dropped: count(Settled::Dropped),
        skipped: count(Settled::Skipped),
        duplicates,
        ..SettledMessages::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        base::{failure::Failure, observer::tests::written},
        consume::attempt::{attempt::tests::attempt, crash::Crash},
    };

    #[test]
    fn each_event_adds_to_its_own_counter_and_to_no_other() {
        let settled =
            |messages| DeliveryEvent::Settled { messages, took: Duration::ZERO, after_answer: None, age: None };
        let received = DeliveryEvent::Received { bytes: 9, redelivered: true, since_publish: None, retry_wait: None };
        let none = SettledMessages::default();
        let zero = ConsumerStats::default();
        let table = [
            (received, ConsumerStats { received: 1, ..zero }),
            (DeliveryEvent::Batch { items: 9 }, ConsumerStats { batches: 1, ..zero }),
            (DeliveryEvent::Crashed { messages: 2 }, ConsumerStats { crashed: 2, ..zero }),
            (DeliveryEvent::RetriedHere { wait: Duration::ZERO }, ConsumerStats { retried: 1, ..zero }),
            (DeliveryEvent::Late, ConsumerStats { late: 1, ..zero }),
            (DeliveryEvent::AckLost { messages: 3 }, ConsumerStats { work_done_ack_lost: 3, ..zero }),
            (DeliveryEvent::ReplyUnroutable, ConsumerStats { replies_unroutable: 1, ..zero }),
            (DeliveryEvent::Lost { deliveries: 4 }, zero),
            (DeliveryEvent::State { from: ConsumerState::Consuming, to: ConsumerState::Paused }, zero),
            (settled(HANDLED), ConsumerStats { handled: 1, ..zero }),
            (settled(not_handled(Settled::Retried)), ConsumerStats { retried: 1, ..zero }),
            (settled(not_handled(Settled::DeadLettered)), ConsumerStats { dead_lettered: 1, ..zero }),
            (settled(not_handled(Settled::Requeued)), ConsumerStats { requeued: 1, ..zero }),
            (settled(not_handled(Settled::Dropped)), ConsumerStats { dropped: 1, ..zero }),
            (settled(not_handled(Settled::Refused)), ConsumerStats { refused: 1, ..zero }),
            (settled(not_handled(Settled::Expired)), ConsumerStats { expired: 1, ..zero }),
            (settled(not_handled(Settled::Skipped)), ConsumerStats { skipped: 1, ..zero }),
            (settled(SettledMessages { duplicates: 5, ..none }), ConsumerStats { duplicates: 5, ..zero }),
        ];
        for (event, expected) in table {
            let events = DeliveryEvents::default();
            events.emit(event);
            assert_eq!(events.stats(ConsumerState::default()), expected, "{event:?}");
        }
    }

    #[test]
    fn an_attempt_is_told_of_with_its_times_once() {
        let (listeners, written) = written();
        let (events, attempt) = (DeliveryEvents::new(listeners, AttemptListeners::default()), attempt(1));
        events.received(&attempt);
        attempt.start();
        events.started(&attempt, Some(attempt.at));
        events.started(&attempt, None);
        std::thread::sleep(Duration::from_millis(2));
        events.answered(&attempt, &Outcome::Failed(Failure::retry("no")));
        events.settled(&attempt, not_handled(Settled::Retried));
        events.lost_channel();
        let written = written.lock().unwrap();
        let [
            DeliveryEvent::Received { bytes: 4, redelivered: false, since_publish: None, retry_wait: None },
            DeliveryEvent::Started { waited, again: false, decode: Some(decode) },
            DeliveryEvent::Answered { took: handled, messages: 1, failed: 1 },
            DeliveryEvent::Settled { messages, took, after_answer: Some(after_answer), age: None },
        ] = written[..]
        else {
            panic!("{written:?}")
        };
        assert_eq!((messages, decode), (not_handled(Settled::Retried), waited));
        assert!(handled >= Duration::from_millis(2) && took >= waited + handled + after_answer);
    }

    #[test]
    fn without_listeners_nobody_reads_when_a_handler_answers() {
        let (events, attempt) = (DeliveryEvents::default(), attempt(1));
        attempt.start();
        events.started(&attempt, None);
        attempt.answer();
        events.answered(&attempt, &Outcome::Crashed(Crash::of_the_actor()));
        assert!(attempt.answered().is_none());
    }

    #[test]
    fn what_a_lost_channel_left_unacked_counts_until_the_next_channel_is_in_use() {
        let (events, attempt) = (DeliveryEvents::default(), attempt(1));
        for _ in 0..3 {
            events.received(&attempt);
        }
        events.settled(&attempt, HANDLED);
        assert_eq!(events.unacked(), 2);
        events.lost_channel();
        assert_eq!((events.in_hand(), events.unacked()), (0, 2));
        events.next_channel();
        assert_eq!(events.unacked(), 0);
    }

    #[test]
    fn a_delivery_is_settled_or_lost_and_not_both() {
        let (listeners, written) = written();
        let (events, attempt) = (DeliveryEvents::new(listeners, AttemptListeners::default()), attempt(1));
        for _ in 0..3 {
            events.received(&attempt);
        }
        events.settled(&attempt, HANDLED);
        events.lost_channel();
        events.lost_channel();
        let lost = |event: &&DeliveryEvent| matches!(event, DeliveryEvent::Lost { .. });
        let written = written.lock().unwrap();
        assert_eq!(written.iter().filter(lost).collect::<Vec<_>>(), [&DeliveryEvent::Lost { deliveries: 2 }]);
    }
}
