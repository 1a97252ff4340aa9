//! Options for a message that is sent because of another message.

use crate::{consume::handler::delivery::Delivery, publish::options::MessageOptions, request::options::RequestOptions};

impl MessageOptions {
    /// For a message that is sent because of `delivery`. It continues the delivery's trace. If no correlation id is set
    /// yet, it also takes over the delivery's correlation id, or the delivery's message id if there is none.
    ///
    /// A handler's messages continue the trace without this, except where
    /// [`trace::current`](crate::trace::current) says that the handler's trace is not known.
    #[must_use]
    pub fn caused_by<T, R>(self, delivery: &Delivery<T, R>) -> Self {
        let options = self.in_trace_of(delivery.trace());
        match delivery.correlation_id().or_else(|| delivery.message_id()) {
            Some(id) if options.correlation_id.is_none() => options.correlation_id(id),
            _ => options,
        }
    }
}

impl RequestOptions {
    /// For a request that is sent because of `delivery`: it continues the delivery's trace. A request of a handler does
    /// so without this, except where [`trace::current`](crate::trace::current) says that the handler's trace is not
    /// known.
    #[must_use]
    pub fn caused_by<T, R>(self, delivery: &Delivery<T, R>) -> Self {
        Self(self.0.in_trace_of(delivery.trace()))
    }
}
