//! What became of a delivery.

/// What became of a delivery at the broker; see [`Delivery::settled`](crate::Delivery::settled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// Handled and acked. With `AtMostOnce` the ack was written before the handling, and may not have reached the
    /// broker.
    Acked,
    /// Failed, and comes again for its next attempt: through a retry queue, or after a wait in this process.
    Retried,
    /// Failed for good; a copy is in the dead-letter queue.
    DeadLettered,
    /// A request that was not handled. Its requester was told why.
    Refused,
    /// A request that was not handled, because its requester had stopped waiting.
    Expired,
    /// Of a type that the consumer [skips](crate::Consume::skip_other_types): acked, and no handler was given it.
    Skipped,
    /// Put back into its queue. No attempt is charged.
    Requeued,
    /// With `AtMostOnce`: not handled. The message was acked on arrival and does not come again.
    Dropped,
    /// The channel or connection was lost before the ack was written. The broker delivers the message again, perhaps to
    /// another process, so work done for this delivery is done twice unless it is idempotent.
    Lost,
}
