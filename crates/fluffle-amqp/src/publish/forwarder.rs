//! The handle that publishes what was prepared before.

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
    },
};

/// Publishes messages that were [prepared](Prepared) before, each where it says: an outbox table's relay, a replay of
/// dead letters. Cheap to clone; all clones share one mailbox, window and channel, with the guarantees of a
/// [`Publisher`](crate::Publisher): always confirmed, in order, published again under the same id after a lost channel.
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
    /// Dropped before it is ready, a message not yet on the wire is withdrawn; one on the wire may arrive.
    pub async fn publish(&self, message: Prepared) -> Result<Confirmed, PublishError<Prepared>> {
        self.accept(message, false).await?.confirmed().await
    }

    /// Waits for room in the mailbox only; the receipt tells of the confirm.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    ///
    /// # Cancellation
    /// Dropped before it is ready, nothing was accepted. A dropped [`Receipt`] withdraws nothing.
    pub async fn enqueue(&self, message: Prepared) -> Result<Receipt<Prepared>, PublishError<Prepared>> {
        self.accept(message, true).await
    }

    /// Makes known what it is fed from, for [`Service::backlogs`](crate::Service::backlogs). Whoever feeds it keeps
    /// that alive.
    pub fn fed_by(&self, backlog: Weak<dyn Backlog>) {
        self.shared.send_queue.fed_by(backlog);
    }

    /// Running totals of this forwarder and its clones.
    pub fn stats(&self) -> PublisherStats {
        self.shared.send_queue.stats()
    }

    async fn accept(&self, message: Prepared, detached: bool) -> Result<Receipt<Prepared>, PublishError<Prepared>> {
        let deadline = Instant::now() + self.shared.deadline;
        let kept = if detached { Kept::InMemory } else { Kept::No };
        let (pending, reply) = Pending::new(Arc::clone(&message.id), message.address(), deadline, kept);
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
