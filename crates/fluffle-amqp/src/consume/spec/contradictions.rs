//! Settings of a consumer that exclude one another.

use crate::{
    consume::spec::consume::Consume,
    topology::{Queue, QueueKind, Topology},
};

/// Why no consumer takes a stream.
pub(crate) const NO_STREAMS: &str = "it is a stream, which hands out only what arrives after each subscription: what arrives \
     while the connection is lost would be skipped without a word, and Fluffle keeps no offsets. Consume from a quorum queue \
     that is bound to the same exchange";

/// Settings of one consumer that exclude one another.
pub(crate) struct Contradiction {
    /// The consumer's queue.
    pub(crate) of: String,
    /// Which settings, and what to do.
    pub(crate) why: &'static str,
}

impl<T, R> Consume<T, R> {
    /// Whether its handlers may be given all messages of a batch at once.
    pub(crate) fn check_batches(&self) -> Result<(), Contradiction> {
        if self.key.is_none() {
            return Ok(());
        }
        self.contradiction(
            "`ordered_by` gives each handler instance the messages of its keys, `consume_batches` a batch with messages of all \
             keys: take `consume`, or leave out `ordered_by`",
        )
    }

    /// Whether its queue is one to consume from, if the application declares it. Of any other the broker is
    /// asked when the consumer subscribes.
    pub(crate) fn check_kind(&self, application: &Topology) -> Result<(), Contradiction> {
        match application.find_queue(&self.queue).map(Queue::kind) {
            Some(QueueKind::Stream) => self.contradiction(NO_STREAMS),
            Some(QueueKind::Classic | QueueKind::Quorum) | None => Ok(()),
        }
    }

    /// Whether it may have the lanes it is to have.
    pub(crate) fn check_lanes(&self, application: &Topology) -> Result<(), Contradiction> {
        if self.lanes == 1 {
            return Ok(());
        }
        if self.key.is_some() {
            return self.contradiction(
                "`ordered_by` keeps order within one channel, and the broker deals messages of one key out to all `lanes`: leave \
                 one of them",
            );
        }
        if self.exclusive {
            return self.contradiction(
                "`exclusive` lets one consumer near the queue, and each of its `lanes` is one: leave one of them",
            );
        }
        if self.is_temporary(application) {
            return self.contradiction(
                "a temporary queue belongs to one connection, and `lanes` may be on several: leave them out",
            );
        }
        if application.find_queue(&self.queue).is_some_and(Queue::is_single_active_consumer) {
            return self.contradiction(
                "of the consumers of a queue with a single active consumer, as those of `Topology::partitioned`, all but one stand \
                 by, and each of its `lanes` is one: leave them out, and consume from more partitions",
            );
        }
        Ok(())
    }

    fn contradiction(&self, why: &'static str) -> Result<(), Contradiction> {
        Err(Contradiction { of: self.queue.clone(), why })
    }
}
