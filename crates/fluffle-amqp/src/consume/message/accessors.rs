//! What `Delivery`, `DeliveryBatch` and `DeliveryInfo` tell of the message they came in: one source, so that the three
//! cannot drift apart.

/// The accessors, for a type with a field `attempt` that dereferences to a [`Received`](super::received::Received).
macro_rules! accessors {
    () => {
        /// The number of this attempt, from 1. A redelivery after a lost connection does not raise it; a failure does.
        pub fn attempt(&self) -> u32 {
            self.attempt.attempt_number.get()
        }

        /// Whether the broker has delivered this message before (AMQP `redelivered`). It may have been handled already.
        pub fn redelivered(&self) -> bool {
            self.attempt.redelivered
        }

        /// The queue it came from.
        pub fn queue(&self) -> &str {
            &self.attempt.queue
        }

        /// The exchange it was published to; empty for the default exchange, and on retries.
        pub fn exchange(&self) -> &str {
            self.attempt.exchange.as_str()
        }

        /// The routing key it was published with; the queue's name on retries.
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

        /// When it was published, in seconds since 1970, if the sender said so.
        pub fn timestamp(&self) -> Option<u64> {
            *self.attempt.properties.timestamp()
        }

        /// When this process received it.
        pub fn received_at(&self) -> std::time::Instant {
            self.attempt.at
        }

        /// A header that holds text. `None` if there is no such header, or if it holds something else.
        pub fn header(&self, name: &str) -> Option<&str> {
            self.attempt.header(name).and_then(|header| header.text())
        }

        /// A header that holds an integer. `None` if there is no such header, or if it holds something else.
        pub fn header_integer(&self, name: &str) -> Option<i64> {
            self.attempt.header(name).and_then(|header| header.integer())
        }
    };
}

pub(crate) use accessors;
