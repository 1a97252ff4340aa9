//! A delivery that is being settled.

use std::sync::Arc;

use fluffle_wire::Encoded;
use tokio::task::JoinHandle;

use crate::{
    base::events::{DeliveryEvent, SettledMessages},
    consume::{
        attempt::attempt::Attempt,
        decide::verdict::Verdict,
        events::delivery_events::{self, DeliveryEvents, HANDLED},
        message::settled::Settled,
    },
};

/// A delivery that is being settled. If it is dropped before its ack is written, the channel was lost: the attempt is
/// settled as [`Settled::Lost`], and `Delivery::settled` resolves to that.
pub(crate) struct Settling {
    attempt: Arc<Attempt>,
    events: Arc<DeliveryEvents>,
    /// With effectively once: the task that marks the message as handled in the store. It finishes even if this
    /// settling is dropped.
    pub(super) marked: Option<JoinHandle<()>>,
    /// How the delivery counts once its ack is written. Set when only the ack is left to do.
    done: Option<(SettledMessages, Settled)>,
}

impl Settling {
    pub(super) fn new(attempt: Arc<Attempt>, events: &Arc<DeliveryEvents>) -> Self {
        Self { attempt, events: Arc::clone(events), marked: None, done: None }
    }

    /// Whether the verdict takes nothing but an ack. If so, the settling is ready for it.
    pub(crate) fn at_once(&mut self, verdict: &Verdict) -> bool {
        let answers = |reply: &Option<Encoded>| reply.is_some() && self.attempt.wants_reply();
        let remembers = self.attempt.seen_key.is_some();
        self.done = match verdict {
            Verdict::Ack(reply) if !remembers && !answers(reply) => Some((HANDLED, Settled::Acked)),
            Verdict::Apart(copies) if !remembers && copies.is_empty() => {
                Some((delivery_events::batch(&self.attempt, &[]), Settled::Acked))
            }
            Verdict::Expire => {
                let (queue, message_id) = (&self.attempt.queue, self.attempt.id_or_dash());
                tracing::debug!(%queue, message_id, "request expired: requester no longer waits, so it is not handled");
                Some((delivery_events::not_handled(Settled::Expired), Settled::Expired))
            }
            Verdict::Duplicate => {
                let (queue, message_id) = (&self.attempt.queue, self.attempt.id_or_dash());
                tracing::debug!(%queue, message_id, "message was handled before: acked and not handled again");
                Some((SettledMessages { duplicates: 1, ..SettledMessages::default() }, Settled::Acked))
            }
            Verdict::Skip { error } => {
                let (queue, message_id) = (&self.attempt.queue, self.attempt.id_or_dash());
                tracing::debug!(%queue, message_id, error, "message is of another type: acked and not handled");
                Some((delivery_events::not_handled(Settled::Skipped), Settled::Skipped))
            }
            _ => None,
        };
        self.done.is_some()
    }

    /// Only the ack is left to do.
    pub(super) fn done(mut self, messages: SettledMessages, settled: Settled) -> Self {
        self.done = Some((messages, settled));
        self
    }

    pub(crate) fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// The ack is written: counts the delivery and settles the attempt.
    pub(crate) fn acked(mut self) {
        if let Some((messages, settled)) = self.done.take() {
            self.events.settled(&self.attempt, messages);
            self.attempt.settle_as(settled);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some((messages, _)) = &self.done {
            // The work is done, but the ack was not written: the broker delivers the message again.
            self.events.emit(DeliveryEvent::AckLost { messages: messages.total() });
        }
        self.attempt.settle_as(Settled::Lost);
        // The handler has answered or was given up, so the bytes are free. What intake lent is kept until the mark is
        // in the store.
        self.attempt.permits.free_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConsumerState, ConsumerStats, consume::attempt::attempt::tests::attempt};

    fn settling() -> (Settling, Arc<Attempt>, Arc<DeliveryEvents>) {
        let (attempt, events) = (Arc::new(attempt(1)), Arc::new(DeliveryEvents::default()));
        (Settling::new(Arc::clone(&attempt), &events), attempt, events)
    }

    fn stats(events: &DeliveryEvents) -> ConsumerStats {
        events.stats(ConsumerState::default())
    }

    #[tokio::test]
    async fn a_written_ack_counts_and_one_that_is_lost_says_so() {
        let (mut written, attempt, events) = settling();
        assert!(written.at_once(&Verdict::Ack(None)));
        written.acked();
        assert_eq!((attempt.settled().await, stats(&events).handled), (Settled::Acked, 1));

        let (mut lost, attempt, events) = settling();
        assert!(lost.at_once(&Verdict::Ack(None)));
        drop(lost);
        assert_eq!(attempt.settled().await, Settled::Lost);
        assert_eq!((stats(&events).handled, stats(&events).work_done_ack_lost), (0, 1));
    }

    #[test]
    fn a_copy_and_a_requeue_take_more_than_an_ack() {
        let (mut settling, ..) = settling();
        let dead = Verdict::DeadLetter { reason: fluffle_wire::headers::Reason::Rejected, error: String::new() };
        for verdict in [Verdict::Requeue, Verdict::Leave, dead] {
            assert!(!settling.at_once(&verdict), "{verdict:?}");
        }
    }
}
