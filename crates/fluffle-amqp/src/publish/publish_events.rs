//! The events of one publisher, at the points where they are decided.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{
    base::{
        events::{PublishEvent, PublishResult},
        observer::Listeners,
    },
    publish::{
        entry::Times,
        stats::{PublisherCounters, PublisherStats, Total},
    },
};

/// Counts the events of one publisher and passes them on to its listeners. Without listeners an event costs the
/// addition to its counter, and no event reads the clock.
#[derive(Default)]
pub(crate) struct PublishEvents {
    counters: PublisherCounters,
    /// Set when a service has the publisher, which may have accepted messages before.
    listeners: OnceLock<Listeners<PublishEvent>>,
}

impl PublishEvents {
    /// The totals, with `outstanding` left at 0.
    pub(crate) fn totals(&self) -> PublisherStats {
        self.counters.read(0)
    }

    /// From now on these hear of everything. What was before comes first, as one event of each kind.
    pub(crate) fn listen(&self, listeners: Listeners<PublishEvent>) {
        if !listeners.is_heard() || self.listeners.set(listeners).is_err() {
            return;
        }
        let before = |total: &Total| usize::try_from(total.listen()).unwrap_or(usize::MAX);
        let (accepted, republished) = (before(&self.counters.accepted), before(&self.counters.republished));
        if accepted > 0 {
            self.tell(&PublishEvent::Accepted { messages: accepted, batch_wait: None });
        }
        if republished > 0 {
            self.tell(&PublishEvent::Republished { messages: republished });
        }
        // Nothing was kept before, because nothing was sent.
        before(&self.counters.kept);
        let results = [
            PublishResult::Confirmed,
            PublishResult::Returned,
            PublishResult::Nacked,
            PublishResult::Failed,
            PublishResult::Withdrawn,
        ];
        for result in results {
            let messages = before(self.total(result));
            if messages > 0 {
                self.tell(&PublishEvent::Settled { result, messages, bytes: 0, took: None, on_the_wire: None });
            }
        }
    }

    /// The time, if listeners want to hear it.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.listeners.get().map(|_| Instant::now())
    }

    #[inline]
    pub(crate) fn accepted(&self, messages: usize) {
        if self.counters.accepted.add(messages) {
            self.tell(&PublishEvent::Accepted { messages, batch_wait: None });
        }
    }

    /// A batch that was `opened` then.
    pub(crate) fn accepted_batch(&self, messages: usize, opened: tokio::time::Instant) {
        if self.counters.accepted.add(messages) {
            self.tell(&PublishEvent::Accepted { messages, batch_wait: Some(opened.elapsed()) });
        }
    }

    pub(crate) fn republished(&self, messages: usize) {
        if messages > 0 && self.counters.republished.add(messages) {
            self.tell(&PublishEvent::Republished { messages });
        }
    }

    #[inline]
    pub(crate) fn settled(&self, result: PublishResult, messages: usize, bytes: usize, times: Times) {
        if self.total(result).add(messages) {
            self.tell_settled(result, messages, bytes, times, self.now());
        }
    }

    /// [`settled`](Self::settled), with an outcome that was there at `decided` and is final only now.
    pub(crate) fn settled_late(
        &self,
        result: PublishResult,
        messages: usize,
        bytes: usize,
        times: Times,
        decided: Option<Instant>,
    ) {
        if self.total(result).add(messages) {
            self.tell_settled(result, messages, bytes, times, decided);
        }
    }

    pub(crate) fn kept(&self, result: PublishResult, messages: usize) {
        if self.counters.kept.add(messages) {
            self.tell(&PublishEvent::Kept { result, messages });
        }
    }

    fn tell_settled(&self, result: PublishResult, messages: usize, bytes: usize, times: Times, now: Option<Instant>) {
        let since = |at: Option<Instant>| -> Option<Duration> { Some(now?.saturating_duration_since(at?)) };
        let (took, on_the_wire) = (since(times.accepted), since(times.sent));
        self.tell(&PublishEvent::Settled { result, messages, bytes, took, on_the_wire });
    }

    fn total(&self, result: PublishResult) -> &Total {
        match result {
            PublishResult::Confirmed => &self.counters.confirmed,
            PublishResult::Returned => &self.counters.returned,
            PublishResult::Nacked => &self.counters.nacked,
            PublishResult::Failed => &self.counters.failed,
            PublishResult::Withdrawn => &self.counters.withdrawn,
        }
    }

    #[cold]
    fn tell(&self, event: &PublishEvent) {
        if let Some(listeners) = self.listeners.get() {
            listeners.tell(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;
    use crate::base::observer::tests::written;

    const NONE: Times = Times { accepted: None, sent: None };

    fn settled(result: PublishResult, messages: usize) -> PublishEvent {
        PublishEvent::Settled { result, messages, bytes: 0, took: None, on_the_wire: None }
    }

    #[test]
    fn what_was_before_the_listeners_comes_as_one_event_of_each_kind() {
        let (events, (listeners, written)) = (PublishEvents::default(), written());
        events.accepted(2);
        events.accepted(3);
        events.settled(PublishResult::Failed, 1, 0, NONE);
        events.listen(listeners);
        events.settled(PublishResult::Confirmed, 4, 0, NONE);
        let expected = [
            PublishEvent::Accepted { messages: 5, batch_wait: None },
            settled(PublishResult::Failed, 1),
            settled(PublishResult::Confirmed, 4),
        ];
        assert_eq!(*written.lock().unwrap(), expected);
        let totals = events.totals();
        assert_eq!((totals.accepted, totals.failed, totals.confirmed), (5, 1, 4));
    }

    #[test]
    fn what_is_accepted_while_listeners_come_is_heard_of_once() {
        // Many rounds, so that some accept at the very moment.
        for _ in 0..2_000 {
            let (events, (listeners, written)) = (Arc::new(PublishEvents::default()), written());
            let (accepting, begun) = (Arc::clone(&events), Arc::new(Barrier::new(2)));
            let both = Arc::clone(&begun);
            let accepting = thread::spawn(move || {
                both.wait();
                (0..100).for_each(|_| accepting.accepted(1));
            });
            begun.wait();
            events.listen(listeners);
            accepting.join().unwrap();
            let written = written.lock().unwrap();
            let heard = written.iter().map(|event| match event {
                PublishEvent::Accepted { messages, .. } => *messages,
                other => panic!("{other:?}"),
            });
            assert_eq!(heard.sum::<usize>(), 100);
        }
    }

    #[test]
    fn each_outcome_adds_to_its_own_total() {
        let events = PublishEvents::default();
        events.settled(PublishResult::Confirmed, 1, 0, NONE);
        events.settled(PublishResult::Returned, 2, 0, NONE);
        events.settled(PublishResult::Nacked, 3, 0, NONE);
        events.settled(PublishResult::Failed, 4, 0, NONE);
        events.settled(PublishResult::Withdrawn, 5, 0, NONE);
        events.republished(6);
        events.kept(PublishResult::Nacked, 7);
        let stats = events.totals();
        let PublisherStats { accepted, confirmed, returned, nacked, republished, kept, .. } = stats;
        let PublisherStats { failed, withdrawn, outstanding, .. } = stats;
        let totals = [accepted, confirmed, returned, nacked, failed, withdrawn, republished, kept];
        assert_eq!(totals, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(outstanding, 0);
    }
}
