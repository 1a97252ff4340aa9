//! What an observer is told of one attempt at a delivery: for logs and pages that name single messages.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fluffle_wire::headers::TraceContext;

use crate::base::observer_panics::guarded;

/// Hears of each attempt that a handler has answered, or has had its time: see
/// [`Observer::attempts`](crate::Observer::attempts). The same rules hold as for a [`Listener`](crate::Listener).
pub type AttemptListener = Arc<dyn for<'a> Fn(&AttemptReport<'a>) + Send + Sync>;

/// One attempt at a delivery, which is a message by itself or a batch. It borrows from the message, so that a listener
/// that keeps nothing costs nothing more.
#[non_exhaustive]
pub struct AttemptReport<'a> {
    /// The id of the message or of the batch.
    pub message_id: Option<&'a str>,
    /// The name of the message's type.
    pub type_name: Option<&'a str>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The body as it came, compressed or not. It may hold what must not be shown.
    pub body: &'a [u8],
    /// The messages of the delivery: 1, or the items of the batch.
    pub messages: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Whether their handler panicked or ended.
    pub crashed: bool,
    /// The time from the delivery's arrival to its start. Of a later attempt in this process, it contains the earlier
    /// attempts and the waits between them.
    pub waited: Duration,
    /// The time from the start to the answer.
    pub took: Duration,
    pub(crate) failure: &'a dyn Fn() -> Option<String>,
    pub(crate) trace: &'a dyn Fn() -> Option<TraceContext>,
}

impl AttemptReport<'_> {
    /// Why it failed, in one line: of a batch, why its first failed message did. Made when asked for.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        (self.failure)()
    }

    /// The span that sent the message (W3C Trace Context). Read when asked for.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        (self.trace)()
    }
}

impl fmt::Debug for AttemptReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptReport")
            .field("message_id", &self.message_id)
            .field("attempt", &self.attempt)
            .field("messages", &self.messages)
            .field("failed", &self.failed)
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}

/// The listeners of one consumer's attempts: none, for most services.
#[derive(Default)]
pub(crate) struct AttemptListeners {
    of: Box<str>,
    all: Box<[(AttemptListener, AtomicBool)]>,
}

impl AttemptListeners {
    pub(crate) fn new(of: &str, all: impl Iterator<Item = AttemptListener>) -> Self {
        Self { of: of.into(), all: all.map(|tell| (tell, AtomicBool::new(false))).collect() }
    }

    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        !self.all.is_empty()
    }

    #[cold]
    pub(crate) fn tell(&self, report: &AttemptReport<'_>) {
        for (tell, is_broken) in self.all.iter().filter(|(_, is_broken)| !is_broken.load(Ordering::Relaxed)) {
            guarded(&self.of, is_broken, || tell(report));
        }
    }
}
