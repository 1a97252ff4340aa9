//! Publishes the copies and answers of one consumer, and places a copy where it belongs.

use std::{sync::Arc, time::Duration};

use fluffle_supervise::SupervisedAddr;
use tokio::time::sleep;

use crate::{
    consume::{settle::copy, spec::side_queues::SideQueues},
    link::{
        bounded::OPERATION_TIMEOUT,
        connection::{ConnectionActor, Declare},
    },
    publish::{error::PublishErrorKind, message::Prepared, outcome::SendOutcome, send_queue::SendQueue},
};

/// The waits between attempts to place a copy that was refused, doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What became of an answer.
pub(crate) enum AnswerSent {
    Sent,
    /// No queue took it: its requester is gone.
    Unroutable,
    /// The publisher is closed, because the application stops.
    Closed,
}

/// Where copies and answers are published: by a publisher of the consumer's own, on a publish connection.
#[derive(Clone)]
pub(crate) struct Copies {
    pub(crate) send_queue: Arc<SendQueue>,
    /// The connection that consumes. It declares a side queue again that was deleted.
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) side_queues: SideQueues,
}

impl Copies {
    pub(crate) async fn answer(&self, message: Prepared) -> AnswerSent {
        match self.send_queue.publish(message).await {
            SendOutcome::Confirmed | SendOutcome::Written => AnswerSent::Sent,
            SendOutcome::Closed => AnswerSent::Closed,
            _ => AnswerSent::Unroutable,
        }
    }

    /// Publishes a copy until it is confirmed and routed. False if the original's channel ends first, as `is_connected`
    /// says, or if the application stops: then the broker has the original again. `dies_in_queue`: the broker
    /// dead-letters the copy from its queue, and adds headers to it.
    ///
    /// If the broker refuses the copy, it is published once more without the sender's own headers. If that is refused
    /// as well, no other form of it would be accepted: a person has to act, and until then it is tried again ever more
    /// slowly.
    pub(crate) async fn place(&self, message: Prepared, dies_in_queue: bool, is_connected: impl Fn() -> bool) -> bool {
        let mut message = copy::fit(message, self.send_queue.most_header_bytes(), dies_in_queue);
        let mut is_plain = false;
        let mut wait = FIRST_WAIT;
        loop {
            match self.send_queue.publish(message.clone()).await {
                SendOutcome::Confirmed => return true,
                SendOutcome::Closed => return false,
                // The largest frame has become smaller since: the broker is another one, or its setting has changed.
                SendOutcome::Unsent(PublishErrorKind::HeadersTooLarge { most, .. }) if !is_plain => {
                    message = copy::fit(copy::plain(message), most, dies_in_queue);
                    is_plain = true;
                }
                SendOutcome::Refused { code, text } if !is_plain => {
                    tracing::error!(
                        queue = %message.routing_key, message_id = message.id(), code, text,
                        "the broker refused the copy of a failed message: it is published again without its sender's headers"
                    );
                    message = copy::fit(copy::plain(message), self.send_queue.most_header_bytes(), dies_in_queue);
                    is_plain = true;
                }
                outcome => {
                    tracing::error!(
                        queue = %message.routing_key, ?outcome, ?wait,
                        "the copy of a failed message was not placed: the original stays unacked, the copy is tried again"
                    );
                    if matches!(outcome, SendOutcome::Returned(_)) {
                        // Its queue was deleted. Whether declaring it again worked shows at the next try.
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
}
