//! The handle that publishes messages which were prepared before.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    base::clock::timeout_at,
    publish::{
        backlog::Backlog,
        entry::Entry,
        error::{PublishError, PublishErrorKind},
        message::Prepared,
        outcome::{Kept, Pending},
        receipt::{Claim, Confirmed, Receipt},
        send_queue::SendQueue,
        stats::PublisherStats,
        tracing,
    },
};

/// Publishes messages that were [prepared](Prepared) before, each to the exchange and with the routing key that it
/// carries. The relay of an outbox table uses it. Cheap to clone. All clones share one mailbox, window and channel,
/// with the guarantees of a [`Publisher`](crate::Publisher): messages are always confirmed, leave in order, and are
/// published again under the same id after a lost channel.
///
/// ```no_run
/// use fluffle_amqp::{Forwarder, Prepared};
///
/// async fn relay(out: &Forwarder, stored: Vec<bytes::Bytes>) -> Result<(), Box<dyn std::error::Error>> {
///     for bytes in stored {
///         out.publish(Prepared::from_bytes(bytes)?).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Forwarder {
    shared: Arc<Shared>,
}

struct Shared {
    send_queue: Arc<SendQueue>,
    deadline: Duration,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.send_queue.abandon();
    }
}

impl Forwarder {
    pub(crate) fn new(send_queue: Arc<SendQueue>, deadline: Duration) -> Self {
        Self { shared: Arc::new(Shared { send_queue, deadline }) }
    }

    /// Publishes and waits for the broker's confirm, for 30 s at most.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    ///
    /// # Cancellation
    /// If the future is dropped before the message is on the wire, the message is withdrawn. A message on the wire may
    /// arrive.
    pub async fn publish(&self, message: Prepared) -> Result<Confirmed, PublishError<Prepared>> {
        self.accept(message, false).await?.confirmed().await
    }

    /// Waits only for room in the mailbox. The receipt resolves with the confirm.
    ///
    /// # Errors
    /// [`PublishError`], with the message, if it was not accepted.
    ///
    /// # Cancellation
    /// If the future is dropped before it is ready, the message was not accepted. Dropping a [`Receipt`] withdraws
    /// nothing.
    pub async fn enqueue(&self, message: Prepared) -> Result<Receipt<Prepared>, PublishError<Prepared>> {
        self.accept(message, true).await
    }

    /// Adds the store that feeds this forwarder, for [`Service::backlogs`](crate::Service::backlogs). The caller keeps
    /// the store alive; the forwarder holds it weakly.
    pub fn fed_by(&self, backlog: Weak<dyn Backlog>) {
        self.shared.send_queue.fed_by(backlog);
    }

    /// The totals of this forwarder and its clones, since it was made.
    pub fn stats(&self) -> PublisherStats {
        self.shared.send_queue.stats()
    }

    async fn accept(&self, mut message: Prepared, detached: bool) -> Result<Receipt<Prepared>, PublishError<Prepared>> {
        let deadline = Instant::now() + self.shared.deadline;
        let kept = if detached { Kept::InMemory } else { Kept::No };
        let span = tracing::prepared(&self.shared.send_queue, &mut message);
        let (pending, mut reply) = Pending::new(Arc::clone(&message.id), message.address(), deadline, kept);
        reply.follow(span);
        let receipt = Receipt::new(message.clone(), Claim::whole(pending));
        match timeout_at(deadline, self.shared.send_queue.accept(Entry::new(message, reply, detached))).await {
            Ok(Ok(())) => Ok(receipt),
            Ok(Err(kind)) => Err(receipt.failed(kind)),
            Err(_) => Err(receipt.failed(PublishErrorKind::Overloaded)),
        }
    }
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("name", &self.shared.send_queue.name).finish_non_exhaustive()
    }
}
