//! What became of a delivery.

/// What became of a delivery, as the broker knows it: [`Delivery::settled`](crate::Delivery::settled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// Handled and acked. With `AtMostOnce` the ack was written first, and may not have reached the broker.
    Acked,
    /// Failed; a copy waits in a retry queue.
    Retried,
    /// Failed for good; a copy is in the dead-letter queue.
    DeadLettered,
    /// A request that was not handled; its requester has been told why.
    Refused,
    /// A request whose requester had stopped waiting: it was not handled.
    Expired,
    /// Put back into its queue, with no attempt charged.
    Requeued,
    /// With `AtMostOnce`: not handled. It was acked on arrival and does not come again.
    Dropped,
    /// Its channel or connection was lost before its ack. The broker delivers it again, perhaps to another process, so
    /// work done for this delivery is done twice unless it is idempotent.
    Lost,
}
