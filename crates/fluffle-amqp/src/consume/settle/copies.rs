//! Publishes the copies and answers of one consumer.

use std::{sync::Arc, time::Duration};

use fluffle_supervise::SupervisedAddr;
use tokio::time::{Instant, sleep};

use crate::{
    consume::{settle::copy, spec::side_queues::SideQueues},
    link::{bounded::OPERATION_TIMEOUT, connection::ConnectionActor, topology_parts::Declare},
    publish::{
        entry::Entry,
        error::PublishErrorKind,
        message::Prepared,
        outcome::{Kept, Pending, SendOutcome},
        send_queue::SendQueue,
    },
};

/// The waits between attempts to publish a copy that was not placed. They double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longer than any message takes, so that copies never end by the clock.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What became of an answer.
pub(crate) enum AnswerSent {
    Sent,
    /// It reached no queue, as a rule because the requester is gone. It is not sent again.
    Unroutable,
    /// The publisher is closed, because the application stops.
    Closed,
}

/// Publishes copies and answers, with a publisher that only this consumer uses, on a publish connection.
#[derive(Clone)]
pub(crate) struct Copies {
    pub(crate) send_queue: Arc<SendQueue>,
    /// The connection that consumes. It declares a deleted side queue again.
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) side_queues: SideQueues,
}

impl Copies {
    pub(crate) async fn answer(&self, message: Prepared) -> AnswerSent {
        match self.publish(message).await {
            SendOutcome::Confirmed | SendOutcome::Written => AnswerSent::Sent,
            SendOutcome::Closed => AnswerSent::Closed,
            _ => AnswerSent::Unroutable,
        }
    }

    /// Publishes a copy until it is confirmed and routed. Returns false if the original's channel is lost first, which
    /// `is_connected` tells, or if the application stops. In both cases the broker delivers the original again.
    /// `dies_in_queue` says that the broker will dead-letter the copy from its queue, and add headers to it.
    ///
    /// If the broker refuses the copy, it is published once more without the sender's own headers. If that is refused
    /// too, no other form of the copy would be accepted, and a person has to act. Until then it is tried again with
    /// growing waits.
    pub(crate) async fn place(&self, message: Prepared, dies_in_queue: bool, is_connected: impl Fn() -> bool) -> bool {
        let mut message = copy::fit(message, self.send_queue.most_header_bytes(), dies_in_queue);
        let mut is_plain = false;
        let mut wait = FIRST_WAIT;
        loop {
            match self.publish(message.clone()).await {
                SendOutcome::Confirmed => return true,
                SendOutcome::Closed => return false,
                // The largest frame has become smaller since the copy was fitted: this is another broker, or its
                // setting was changed.
                SendOutcome::Unsent(PublishErrorKind::HeadersTooLarge { most, .. }) if !is_plain => {
                    message = copy::fit(copy::plain(message), most, dies_in_queue);
                    is_plain = true;
                }
                SendOutcome::Refused { code, text } if !is_plain => {
                    tracing::error!(
                        queue = %message.routing_key, message_id = message.id(), code, text,
                        "the broker refused the copy of a failed message: \
                         it is published again without its sender's headers"
                    );
                    message = copy::fit(copy::plain(message), self.send_queue.most_header_bytes(), dies_in_queue);
                    is_plain = true;
                }
                outcome => {
                    tracing::error!(
                        queue = %message.routing_key, message_id = message.id(), ?outcome, ?wait,
                        "the copy of a failed message was not placed: the original stays unacked, and the copy is \
                         published again after the wait"
                    );
                    if matches!(outcome, SendOutcome::Returned(_)) {
                        // The queue of the copy was deleted, so it is declared again. If that fails, the next try is
                        // returned too.
                        let _ = self.connection.send(Declare::Shared).within(OPERATION_TIMEOUT).await;
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            if !is_connected() {
                return false;
            }
        }
    }

    /// Publishes `message`, even when its caller no longer waits, and waits for its outcome. It has no span, because a
    /// copy carries the trace of its original.
    async fn publish(&self, message: Prepared) -> SendOutcome {
        let deadline = Instant::now() + NO_DEADLINE;
        let (pending, reply) = Pending::new(Arc::clone(&message.id), message.address(), deadline, Kept::InMemory);
        match self.send_queue.accept(Entry::new(message, reply, true)).await {
            Ok(()) => match pending.outcome().await {
                SendOutcome::Unsent(PublishErrorKind::NotSent(_)) => SendOutcome::Closed,
                outcome => outcome.clone(),
            },
            Err(_) => SendOutcome::Closed,
        }
    }
}
