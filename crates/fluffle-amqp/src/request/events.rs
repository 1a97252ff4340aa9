//! The events of one requester, at the points where they are decided.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use crate::{
    base::{
        events::{RequestEvent, RequestResult},
        observer::Listeners,
    },
    publish::{stats::Total, travel::NotSent},
    request::error::RequestErrorKind,
};

/// The totals of one requester since it was made. They are never reset, and at any time
/// `asked = answered + refused + failed + timed_out + cancelled + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequesterStats {
    /// Requests that callers have begun to make.
    pub asked: u64,
    /// Requests whose answer has come in time and was read.
    pub answered: u64,
    /// Requests whose answer says that the other side refused them or failed.
    pub refused: u64,
    /// Requests that could not be sent, that no queue took, whose channel was lost, or whose answer could not be read.
    pub failed: u64,
    /// Requests whose deadline passed, whether they were sent or not.
    pub timed_out: u64,
    /// Requests whose caller dropped its future.
    pub cancelled: u64,
    /// Requests whose caller waits at this moment.
    pub pending: u64,
    /// Answers that came after their caller had stopped waiting.
    pub late_answers: u64,
}

/// Counts the events of one requester and passes them on to its listeners.
#[derive(Default)]
pub(crate) struct RequestEvents {
    asked: Total,
    sent: Total,
    answered: Total,
    refused: Total,
    failed: Total,
    timed_out: Total,
    cancelled: Total,
    late: Total,
    /// Set when a service has the requester, whose callers may have asked before.
    listeners: OnceLock<Listeners<RequestEvent>>,
}

impl RequestEvents {
    pub(crate) fn stats(&self) -> RequesterStats {
        // Read last, so that no request is settled and not asked.
        let settled = [&self.answered, &self.refused, &self.failed, &self.timed_out, &self.cancelled].map(Total::get);
        let [answered, refused, failed, timed_out, cancelled] = settled;
        let asked = self.asked.get();
        let pending = asked.saturating_sub(settled.iter().sum());
        RequesterStats { asked, answered, refused, failed, timed_out, cancelled, pending, late_answers: self.late() }
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.get()
    }

    /// From now on these hear of everything. What was before comes first, as one event of each kind.
    pub(crate) fn listen(&self, listeners: Listeners<RequestEvent>) {
        if !listeners.is_heard() || self.listeners.set(listeners).is_err() {
            return;
        }
        let before = |total: &Total| usize::try_from(total.listen()).unwrap_or(usize::MAX);
        let (asked, sent) = (before(&self.asked), before(&self.sent));
        if asked > 0 {
            self.tell(&RequestEvent::Asked { requests: asked });
        }
        if sent > 0 {
            self.tell(&RequestEvent::Sent { requests: sent });
        }
        for result in RequestResult::ALL {
            let requests = before(self.total(result));
            if requests > 0 {
                self.tell(&RequestEvent::Settled { result, requests, took: None });
            }
        }
        for _ in 0..before(&self.late) {
            self.tell(&RequestEvent::LateAnswer);
        }
    }

    /// A caller asks. It has asked until the guard is dropped or told the result.
    pub(crate) fn ask(self: &Arc<Self>) -> Asking {
        if self.asked.add(1) {
            self.tell(&RequestEvent::Asked { requests: 1 });
        }
        let begun = self.listeners.get().map(|_| Instant::now());
        Asking { events: Arc::clone(self), begun, result: RequestResult::Cancelled }
    }

    pub(crate) fn sent(&self) {
        if self.sent.add(1) {
            self.tell(&RequestEvent::Sent { requests: 1 });
        }
    }

    pub(crate) fn late_answer(&self) {
        if self.late.add(1) {
            self.tell(&RequestEvent::LateAnswer);
        }
    }

    fn total(&self, result: RequestResult) -> &Total {
        match result {
            RequestResult::Answered => &self.answered,
            RequestResult::Refused => &self.refused,
            RequestResult::Failed => &self.failed,
            RequestResult::TimedOut => &self.timed_out,
            RequestResult::Cancelled => &self.cancelled,
        }
    }

    #[cold]
    fn tell(&self, event: &RequestEvent) {
        if let Some(listeners) = self.listeners.get() {
            listeners.tell(event);
        }
    }
}

/// One request that is under way. Dropped without a result, its caller has dropped it.
pub(crate) struct Asking {
    events: Arc<RequestEvents>,
    /// If listeners want to hear how long it took.
    begun: Option<Instant>,
    result: RequestResult,
}

impl Asking {
    pub(crate) fn ended<R>(mut self, result: &Result<R, RequestErrorKind>) {
        self.result = match result {
            Ok(_) => RequestResult::Answered,
            Err(RequestErrorKind::Refused { .. } | RequestErrorKind::Failed { .. }) => RequestResult::Refused,
            Err(
                RequestErrorKind::TimedOut
                | RequestErrorKind::Overloaded
                | RequestErrorKind::NotSent(NotSent::Deadline),
            ) => RequestResult::TimedOut,
            Err(_) => RequestResult::Failed,
        };
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.events.total(self.result).add(1) {
            let took = self.begun.map(|begun| begun.elapsed());
            self.events.tell(&RequestEvent::Settled { result: self.result, requests: 1, took });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::observer::tests::written;

    fn end(events: &Arc<RequestEvents>, result: Result<(), RequestErrorKind>) {
        events.ask().ended(&result);
    }

    #[test]
    fn each_request_is_settled_once_by_how_it_ended() {
        let events = Arc::new(RequestEvents::default());
        end(&events, Ok(()));
        end(&events, Err(RequestErrorKind::Failed { reason: "r".into(), error: "e".into() }));
        end(&events, Err(RequestErrorKind::Nacked));
        end(&events, Err(RequestErrorKind::Overloaded));
        drop(events.ask());
        let waits = events.ask();
        let expected = RequesterStats {
            asked: 6,
            answered: 1,
            refused: 1,
            failed: 1,
            timed_out: 1,
            cancelled: 1,
            pending: 1,
            late_answers: 0,
        };
        assert_eq!(events.stats(), expected);
        drop(waits);
        assert_eq!(events.stats().pending, 0);
    }

    #[test]
    fn what_was_before_the_listeners_comes_first() {
        let (events, (listeners, written)) = (Arc::new(RequestEvents::default()), written());
        end(&events, Ok(()));
        let waits = events.ask();
        events.late_answer();
        events.listen(listeners);
        drop(waits);
        let settled = |result| RequestEvent::Settled { result, requests: 1, took: None };
        let expected = [
            RequestEvent::Asked { requests: 2 },
            settled(RequestResult::Answered),
            RequestEvent::LateAnswer,
            settled(RequestResult::Cancelled),
        ];
        assert_eq!(*written.lock().unwrap(), expected);
    }
}
