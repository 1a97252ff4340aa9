//! A message that is sent because of another one.

use fluffle_wire::headers::{TRACEPARENT, TRACESTATE};

use crate::{consume::handler::delivery::Delivery, publish::options::MessageOptions};

impl MessageOptions {
    /// For a message that is sent because of `delivery`: continues its trace, and takes over its correlation id (or its
    /// message id, if it has none), unless a correlation id is set already.
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
