//! The properties of one request beside its body.

use fluffle_wire::headers::TraceContext;

use crate::publish::options::MessageOptions;

/// The properties of one request beside its body, for [`Requester::request_with`](crate::Requester::request_with). All
/// are optional. A request has an id, a correlation id and a lifetime of its own, which cannot be set.
///
/// ```
/// use fluffle_amqp::{RequestError, RequestOptions, Requester};
///
/// async fn price(shop: &Requester<String, u64>, article: String) -> Result<u64, RequestError<String>> {
///     shop.request_with(article, RequestOptions::new().header("tenant", "eu").priority(5)).await
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestOptions(pub(crate) MessageOptions);

impl RequestOptions {
    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The routing key, instead of the route's.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self(self.0.key(key))
    }

    /// AMQP `priority`, 0 to 255. RabbitMQ advises at most 10.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        Self(self.0.priority(priority))
    }

    /// Adds a header that holds text. Names that begin with `x-fluffle-` are reserved for Fluffle.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.header(name, value))
    }

    /// Adds a header that holds an integer.
    #[must_use]
    pub fn header_integer(self, name: impl Into<String>, value: i64) -> Self {
        Self(self.0.header_integer(name, value))
    }

    /// The span that has created the request, as [`MessageOptions::trace`].
    #[must_use]
    pub fn trace(self, context: &TraceContext) -> Self {
        Self(self.0.trace(context))
    }
}
