//! The metrics of the consumers of a queue.

use fluffle_amqp::{BetweenHosts, DeliveryEvent, SettledMessages};

use crate::{
    instrument::{
        bounds::{AGES, SIZES, TIMES},
        counter::{Counter, Seconds},
        histogram::{Counts, Histogram},
    },
    metrics::{by_label::ByLabel, gauges::word},
    names,
    reading::Reading,
};

/// The metrics of all consumers of one queue in this process.
pub(crate) struct ConsumerMetrics {
    received: Counter,
    redelivered: Counter,
    bytes: Counter,
    messages: Counter,
    failed: Counter,
    handled: Counter,
    retried: Counter,
    dead_lettered: Counter,
    requeued: Counter,
    dropped: Counter,
    duplicates: Counter,
    refused: Counter,
    expired: Counter,
    skipped: Counter,
    settled_deliveries: Counter,
    lost_deliveries: Counter,
    retried_here: Counter,
    crashed: Counter,
    late: Counter,
    ack_lost: Counter,
    replies_unroutable: Counter,
    offsets_removed: Counter,
    transitions: ByLabel,
    busy: Seconds,
    batch_size: Histogram,
    broker: Histogram,
    handler_wait: Histogram,
    decode: Histogram,
    handle: Histogram,
    settle: Histogram,
    retry_wait: Histogram,
    age: Histogram,
    skew: Counter,
}

/// Totals from which rates are made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ConsumerTotals {
    /// Deliveries.
    pub(crate) received: u64,
    /// Messages.
    pub(crate) settled: u64,
    /// Messages.
    pub(crate) failed: u64,
    /// Messages.
    pub(crate) crashed: u64,
    /// Seconds.
    pub(crate) busy: f64,
}

impl Default for ConsumerMetrics {
    fn default() -> Self {
        let times = || Histogram::of_times(TIMES);
        Self {
            received: Counter::default(),
            redelivered: Counter::default(),
            bytes: Counter::default(),
            messages: Counter::default(),
            failed: Counter::default(),
            handled: Counter::default(),
            retried: Counter::default(),
            dead_lettered: Counter::default(),
            requeued: Counter::default(),
            dropped: Counter::default(),
            duplicates: Counter::default(),
            refused: Counter::default(),
            expired: Counter::default(),
            skipped: Counter::default(),
            settled_deliveries: Counter::default(),
            lost_deliveries: Counter::default(),
            retried_here: Counter::default(),
            crashed: Counter::default(),
            late: Counter::default(),
            ack_lost: Counter::default(),
            replies_unroutable: Counter::default(),
            offsets_removed: Counter::default(),
            transitions: ByLabel::default(),
            busy: Seconds::default(),
            batch_size: Histogram::of_sizes(SIZES),
            broker: times(),
            handler_wait: times(),
            decode: times(),
            handle: times(),
            settle: times(),
            retry_wait: times(),
            age: Histogram::of_times(AGES),
            skew: Counter::default(),
        }
    }
}

impl ConsumerMetrics {
    #[inline]
    pub(crate) fn record(&self, event: &DeliveryEvent) {
        match *event {
            DeliveryEvent::Received { bytes, redelivered, since_publish, retry_wait, .. } => {
                self.received.one();
                self.bytes.add(bytes);
                if redelivered {
                    self.redelivered.one();
                }
                self.between_hosts(&self.broker, since_publish);
                self.between_hosts(&self.retry_wait, retry_wait);
            }
            DeliveryEvent::Started { waited, again, decode, .. } => {
                // Of a later attempt in this process, `waited` holds the attempts before.
                if !again {
                    self.handler_wait.record(waited.saturating_sub(decode.unwrap_or_default()));
                }
                if let Some(decode) = decode {
                    self.decode.record(decode);
                }
            }
            DeliveryEvent::Batch { items, .. } => self.batch_size.record_size(items),
            DeliveryEvent::Answered { took, messages, failed, .. } => {
                self.messages.add(messages);
                if failed > 0 {
                    self.failed.add(failed);
                }
                self.busy.add(took);
                self.handle.record(took);
            }
            DeliveryEvent::Crashed { messages, .. } => self.crashed.add(messages),
            DeliveryEvent::RetriedHere { wait, .. } => {
                self.retried_here.one();
                self.retry_wait.record(wait);
            }
            DeliveryEvent::Late => self.late.one(),
            DeliveryEvent::Settled { messages, after_answer, age, .. } => {
                self.settled_deliveries.one();
                self.settled(&messages);
                self.between_hosts(&self.age, age);
                if let Some(after_answer) = after_answer {
                    self.settle.record(after_answer);
                }
            }
            DeliveryEvent::AckLost { messages, .. } => self.ack_lost.add(messages),
            DeliveryEvent::Lost { deliveries, .. } => self.lost_deliveries.add(deliveries),
            DeliveryEvent::ReplyUnroutable => self.replies_unroutable.one(),
            DeliveryEvent::OffsetsRemoved { offsets, .. } => {
                self.offsets_removed.add(usize::try_from(offsets).unwrap_or(usize::MAX));
            }
            DeliveryEvent::State { to, .. } => self.transitions.one(word(to)),
            _ => {}
        }
    }

    /// A wait that was measured with the clocks of two hosts: a negative one counts as zero, and is counted.
    #[inline]
    fn between_hosts(&self, histogram: &Histogram, wait: Option<BetweenHosts>) {
        if let Some(wait) = wait {
            histogram.record(wait.time);
            if wait.is_clamped {
                self.skew.one();
            }
        }
    }

    fn settled(&self, messages: &SettledMessages) {
        for (counter, more) in [
            (&self.handled, messages.handled),
            (&self.retried, messages.retried),
            (&self.dead_lettered, messages.dead_lettered),
            (&self.requeued, messages.requeued),
            (&self.dropped, messages.dropped),
            (&self.duplicates, messages.duplicates),
            (&self.refused, messages.refused),
            (&self.expired, messages.expired),
            (&self.skipped, messages.skipped),
        ] {
            if more > 0 {
                counter.add(more);
            }
        }
    }

    /// With each outcome that a message may have.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 9] {
        [
            ("handled", self.handled.get()),
            ("retried", self.retried.get()),
            ("dead_lettered", self.dead_lettered.get()),
            ("requeued", self.requeued.get()),
            ("dropped", self.dropped.get()),
            ("duplicate", self.duplicates.get()),
            ("refused", self.refused.get()),
            ("expired", self.expired.get()),
            ("skipped", self.skipped.get()),
        ]
    }

    /// The histogram of each stage, in the order in which a delivery passes them.
    pub(crate) fn stages(&self) -> [(&'static str, Counts); 6] {
        [
            ("broker", self.broker.read()),
            ("handler_wait", self.handler_wait.read()),
            ("decode", self.decode.read()),
            ("handle", self.handle.read()),
            ("settle", self.settle.read()),
            ("retry_wait", self.retry_wait.read()),
        ]
    }

    pub(crate) fn totals(&self) -> ConsumerTotals {
        ConsumerTotals {
            received: self.received.get(),
            settled: self.outcomes().iter().map(|(_, count)| count).sum(),
            failed: self.failed.get(),
            crashed: self.crashed.get(),
            busy: self.busy.get(),
        }
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered.get()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Deliveries that are settled or lost.
    pub(crate) fn ended(&self) -> u64 {
        self.settled_deliveries.get() + self.lost_deliveries.get()
    }

    pub(crate) fn read(&self, queue: &str, into: &mut Reading) {
        let queue = &[queue][..];
        into.count(&names::RECEIVED, queue, self.received());
        into.count(&names::REDELIVERED, queue, self.redelivered.get());
        into.count(&names::RECEIVED_BYTES, queue, self.bytes.get());
        into.count(&names::CONSUMED, queue, self.messages.get());
        into.count(&names::FAILED_ATTEMPTS, queue, self.failed.get());
        for (outcome, count) in self.outcomes() {
            into.count(&names::SETTLED, &[queue[0], outcome], count);
        }
        into.count(&names::SETTLED_DELIVERIES, queue, self.settled_deliveries.get());
        into.count(&names::LOST_DELIVERIES, queue, self.lost_deliveries.get());
        into.count(&names::RETRIED_HERE, queue, self.retried_here.get());
        into.count(&names::CRASHED, queue, self.crashed.get());
        into.count(&names::LATE, queue, self.late.get());
        into.count(&names::ACK_LOST, queue, self.ack_lost.get());
        into.count(&names::REPLIES_UNROUTABLE, queue, self.replies_unroutable.get());
        into.count(&names::OFFSETS_REMOVED, queue, self.offsets_removed.get());
        for (to, count) in self.transitions.all() {
            into.count(&names::CONSUMER_TRANSITIONS, &[queue[0], &to], count);
        }
        into.number(&names::BUSY_SECONDS, queue, self.busy.get());
        into.counts(&names::BATCH_SIZE, queue, self.batch_size.read());
        into.counts(&names::MESSAGE_AGE, queue, self.age.read());
        into.count(&names::CLOCK_SKEW, queue, self.skew.get());
        into.counts(&names::PROCESS_DURATION, queue, self.handle.read());
        for (stage, counts) in self.stages() {
            into.counts(&names::CONSUME_STAGE, &[queue[0], stage], counts);
        }
    }
}
