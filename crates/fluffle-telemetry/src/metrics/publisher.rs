//! The metrics of a publisher.

use fluffle_amqp::{PublishEvent, PublishResult};

use crate::{
    instrument::{
        bounds::TIMES,
        counter::Counter,
        histogram::{Counts, Histogram},
    },
    names,
    reading::Reading,
};

/// The metrics of one publisher, all its lanes together.
pub(crate) struct PublisherMetrics {
    accepted: Counter,
    confirmed: Counter,
    returned: Counter,
    nacked: Counter,
    failed: Counter,
    withdrawn: Counter,
    republished: Counter,
    bytes: Counter,
    duration: Histogram,
    batch_wait: Histogram,
    confirm: Histogram,
}

impl Default for PublisherMetrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            confirmed: Counter::default(),
            returned: Counter::default(),
            nacked: Counter::default(),
            failed: Counter::default(),
            withdrawn: Counter::default(),
            republished: Counter::default(),
            bytes: Counter::default(),
            duration: Histogram::of_times(TIMES),
            batch_wait: Histogram::of_times(TIMES),
            confirm: Histogram::of_times(TIMES),
        }
    }
}

impl PublisherMetrics {
    #[inline]
    pub(crate) fn record(&self, event: &PublishEvent) {
        match *event {
            PublishEvent::Accepted { messages, batch_wait, .. } => {
                self.accepted.add(messages);
                if let Some(batch_wait) = batch_wait {
                    self.batch_wait.record(batch_wait);
                }
            }
            PublishEvent::Republished { messages, .. } => self.republished.add(messages),
            PublishEvent::Settled { result, messages, bytes, took, on_the_wire, .. } => {
                if let Some(counter) = self.counter(result) {
                    counter.add(messages);
                }
                self.bytes.add(bytes);
                if let Some(took) = took {
                    self.duration.record_for(took, messages);
                }
                if let Some(on_the_wire) = on_the_wire {
                    self.confirm.record_for(on_the_wire, messages);
                }
            }
            _ => {}
        }
    }

    fn counter(&self, result: PublishResult) -> Option<&Counter> {
        match result {
            PublishResult::Confirmed => Some(&self.confirmed),
            PublishResult::Returned => Some(&self.returned),
            PublishResult::Nacked => Some(&self.nacked),
            PublishResult::Failed => Some(&self.failed),
            PublishResult::Withdrawn => Some(&self.withdrawn),
            _ => None,
        }
    }

    /// With each outcome that a message may have.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("confirmed", self.confirmed.get()),
            ("returned", self.returned.get()),
            ("nacked", self.nacked.get()),
            ("failed", self.failed.get()),
            ("withdrawn", self.withdrawn.get()),
        ]
    }

    pub(crate) fn republished(&self) -> u64 {
        self.republished.get()
    }

    /// The histogram of each stage.
    pub(crate) fn stages(&self) -> [(&'static str, Counts); 2] {
        [("batch_wait", self.batch_wait.read()), ("confirm", self.confirm.read())]
    }

    pub(crate) fn read(&self, publisher: &str, into: &mut Reading) {
        into.count(&names::SENT, &[publisher], self.accepted.get());
        for (outcome, count) in self.outcomes() {
            into.count(&names::PUBLISH_SETTLED, &[publisher, outcome], count);
        }
        into.count(&names::PUBLISH_REPUBLISHED, &[publisher], self.republished.get());
        into.count(&names::PUBLISH_BYTES, &[publisher], self.bytes.get());
        into.counts(&names::PUBLISH_DURATION, &[publisher], self.duration.read());
        for (stage, counts) in self.stages() {
            into.counts(&names::PUBLISH_STAGE, &[publisher, stage], counts);
        }
    }
}
