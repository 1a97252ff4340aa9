//! Decides whether one session takes deliveries, and how many: the smaller of what the consumer's switches allow and
//! what its isolation allows.

use std::{future::pending, sync::Arc};

use crate::consume::{
    attempt::{attempt::Attempt, outcome::Outcome},
    decide::verdict::Verdict,
    message::received::Received,
    session::{
        guard::{Guard, Watch},
        quarantine::{Arrived, Isolation, Quarantine},
    },
};

/// How many deliveries one session may take.
pub(crate) struct Gate {
    guard: Arc<Guard>,
    watch: Watch,
    isolation: Isolation,
    /// The last delivery tag seen. On a channel tags only grow.
    last_tag: u64,
}

impl Gate {
    pub(crate) fn new(guard: &Arc<Guard>, quarantine: &Arc<Quarantine>) -> Self {
        Self { guard: Arc::clone(guard), watch: Watch::new(guard), isolation: Isolation::new(quarantine), last_tag: 0 }
    }

    /// Looks at a delivery that has arrived.
    pub(crate) fn arrived(&mut self, message: &Received) -> Arrived {
        self.isolation.look(message)
    }

    /// Notes the tag of a delivery.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.last_tag = tag;
    }

    /// How many deliveries may be unacked, at most `prefetch`. `None` if the session must not take any. `busy` says
    /// that the session has deliveries in hand.
    pub(crate) fn allows(&mut self, prefetch: u16, busy: bool) -> Option<u16> {
        if busy {
            self.isolation.is_busy();
        }
        self.isolation.allows(self.guard.allows(prefetch))
    }

    /// The session has adopted what is allowed now. If a switch has changed, deliveries from before the change no
    /// longer count for it.
    pub(crate) fn followed(&mut self) {
        self.watch.look(self.last_tag + 1);
    }

    /// Whether the session must close its channel as soon as everything in hand is settled, and must not begin anything
    /// more on it.
    pub(crate) fn closes_channel(&self) -> bool {
        self.isolation.is_over()
    }

    pub(crate) fn answered(&self, attempt: &Attempt, outcome: &Outcome) {
        self.watch.answered(attempt, outcome);
    }

    pub(crate) fn settled(&self, attempt: &Attempt, verdict: &Verdict) {
        self.watch.settled(attempt.tag, attempt.messages(), verdict);
    }

    /// Waits until [`allows`](Self::allows) may give another number. Cancellation safe.
    pub(crate) async fn changed(&mut self) {
        let (watch, isolation) = (&mut self.watch, &mut self.isolation);
        tokio::select! {
            biased;
            () = watch.changed(), if watch.is_on() => {}
            () = isolation.changed(), if isolation.is_on() => {}
            else => pending().await,
        }
    }
}
