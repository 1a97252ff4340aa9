//! The settings of a consumer that reads a stream.

use crate::consume::spec::{consume::Consume, stream::StreamReader};

impl<T, R> Consume<T, R> {
    /// Reads a stream ([`Queue::stream`](crate::Queue::stream)) from where `reader` stopped. The handlers are the same
    /// as for a queue, and so are batches, `ordered_by`, `concurrency`, time limits, rate limits and switches. What
    /// differs:
    ///
    /// - The consumer is called `<stream>.<reader>`: in the tree, in [`Delivery::queue`](crate::Delivery::queue), for
    ///   [`pause_consumer`](crate::Service::pause_consumer) and so on.
    /// - A stream takes nothing back. A failed message is copied to `<stream>.<reader>.retry.<ms>`, from which it
    ///   returns to the queue `<stream>.<reader>`; a second consumer with the same settings and handlers of its own
    ///   reads it there. The dead-letter queue is `<stream>.<reader>.dead`. All are declared for you.
    /// - Acks are written in order, so a message that takes long holds up the stream once
    ///   [`prefetch`](Self::prefetch) further messages are delivered. If a handler waits for messages behind its own,
    ///   nothing moves.
    /// - Deliveries are not counted, so [`delivery_limit`](Self::delivery_limit) protects only messages that have
    ///   failed before.
    ///
    /// Refused at the start together with [`AtMostOnce`](crate::AtMostOnce), [`lanes`](Self::lanes),
    /// [`exclusive`](Self::exclusive) and [`priority`](Self::priority), and for a queue that is no stream.
    #[must_use]
    pub fn stream(mut self, reader: StreamReader) -> Self {
        self.stream = Some(reader);
        self
    }

    /// Of a reader of a stream: from here on its queue is the one that its failed messages return to.
    pub(crate) fn is_named_after_its_reader(&mut self) {
        if let Some(reader) = &mut self.stream {
            reader.stream = self.queue.as_str().into();
            self.queue = format!("{}.{}", self.queue, reader.name);
        }
    }
}
