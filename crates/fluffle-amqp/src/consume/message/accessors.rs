//! What `Delivery`, `DeliveryBatch` and `DeliveryInfo` tell of the message they came in: one source, so that the three
//! cannot drift apart.

/// The accessors, for a type with a field `attempt` that dereferences to a [`Received`](super::received::Received).
macro_rules! accessors {
    () => {
        /// The number of this attempt, from 1. A failure raises it; a redelivery after a lost connection does not.
        pub fn attempt(&self) -> u32 {
            self.attempt.attempt_number.get()
        }

        /// Whether the broker has delivered this message before (AMQP `redelivered`). It may have been handled already.
        pub fn redelivered(&self) -> bool {
            self.attempt.redelivered
        }

        /// The queue from which the message was consumed.
        pub fn queue(&self) -> &str {
            &self.attempt.queue
        }

        /// The exchange to which the message was published. Empty for the default exchange, and after a retry through a
        /// retry queue.
        pub fn exchange(&self) -> &str {
            self.attempt.exchange.as_str()
        }

        /// The routing key with which the message was published. After a retry through a retry queue it is the queue's
        /// name.
        pub fn routing_key(&self) -> &str {
            self.attempt.routing_key.as_str()
        }

        /// The sender's correlation id.
        pub fn correlation_id(&self) -> Option<&str> {
            self.attempt.properties.correlation_id().as_ref().map(|id| id.as_str())
        }

        /// The priority; 0 if the sender set none.
        pub fn priority(&self) -> u8 {
            self.attempt.properties.priority().unwrap_or(0)
        }

        /// When the message was published, in seconds since 1970, if the sender set it.
        pub fn timestamp(&self) -> Option<u64> {
            *self.attempt.properties.timestamp()
        }

        /// When this process received the message.
        pub fn received_at(&self) -> std::time::Instant {
            self.attempt.at
        }

        /// The value of a text header. `None` if there is no such header, or if its value is not text.
        pub fn header(&self, name: &str) -> Option<&str> {
            self.attempt.header(name).and_then(|header| header.text())
        }

        /// The value of an integer header. `None` if there is no such header, or if its value is not an integer.
        pub fn header_integer(&self, name: &str) -> Option<i64> {
            self.attempt.header(name).and_then(|header| header.integer())
        }
    };
}

pub(crate) use accessors;
