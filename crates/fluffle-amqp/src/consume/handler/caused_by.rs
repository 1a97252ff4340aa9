//! Options for a message that is sent because of another message.

use fluffle_wire::headers::{TRACEPARENT, TRACESTATE};

use crate::{consume::handler::delivery::Delivery, publish::options::MessageOptions};

impl MessageOptions {
    /// For a message that is sent because of `delivery`. It continues the delivery's trace. If no correlation id is set
    /// yet, it also takes over the delivery's correlation id, or the delivery's message id if there is none.
    #[must_use]
    pub fn caused_by<T, R>(mut self, delivery: &Delivery<T, R>) -> Self {
        for name in [TRACEPARENT, TRACESTATE] {
            if let Some(value) = delivery.header(name) {
                self = self.header(name, value);
            }
        }
        match delivery.correlation_id().or_else(|| delivery.message_id()) {
            Some(id) if self.correlation_id.is_none() => self.correlation_id(id),
            _ => self,
        }
    }
}
