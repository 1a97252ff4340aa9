//! The metrics of a requester.

use fluffle_amqp::{RequestEvent, RequestResult};

use crate::{
    instrument::{bounds::TIMES, counter::Counter, histogram::Histogram},
    names,
    reading::Reading,
};

/// The metrics of one requester.
pub(crate) struct RequesterMetrics {
    asked: Counter,
    answered: Counter,
    refused: Counter,
    failed: Counter,
    timed_out: Counter,
    cancelled: Counter,
    late: Counter,
    duration: Histogram,
}

impl Default for RequesterMetrics {
    fn default() -> Self {
        Self {
            asked: Counter::default(),
            answered: Counter::default(),
            refused: Counter::default(),
            failed: Counter::default(),
            timed_out: Counter::default(),
            cancelled: Counter::default(),
            late: Counter::default(),
            duration: Histogram::of_times(TIMES),
        }
    }
}

impl RequesterMetrics {
    pub(crate) fn record(&self, event: &RequestEvent) {
        match *event {
            RequestEvent::Asked { requests, .. } => self.asked.add(requests),
            RequestEvent::Settled { result, requests, took, .. } => {
                let counter = match result {
                    RequestResult::Answered => &self.answered,
                    RequestResult::Refused => &self.refused,
                    RequestResult::TimedOut => &self.timed_out,
                    RequestResult::Cancelled => &self.cancelled,
                    _ => &self.failed,
                };
                counter.add(requests);
                if let (Some(took), RequestResult::Answered | RequestResult::Refused) = (took, result) {
                    self.duration.record_for(took, requests);
                }
            }
            RequestEvent::LateAnswer => self.late.one(),
            _ => {}
        }
    }

    pub(crate) fn read(&self, requester: &str, into: &mut Reading) {
        into.count(&names::REQUESTS, &[requester], self.asked.get());
        for (outcome, counter) in [
            ("answered", &self.answered),
            ("refused", &self.refused),
            ("failed", &self.failed),
            ("timed_out", &self.timed_out),
            ("cancelled", &self.cancelled),
        ] {
            into.count(&names::REQUEST_OUTCOMES, &[requester, outcome], counter.get());
        }
        into.count(&names::LATE_ANSWERS, &[requester], self.late.get());
        into.counts(&names::ANSWER_DURATION, &[requester], self.duration.read());
    }
}
