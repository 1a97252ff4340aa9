//! What a consumer promises about each message.

/// What a consumer promises about each message.
///
/// ```
/// use fluffle_amqp::{AtMostOnce, Consume};
///
/// let telemetry: Consume<String> = Consume::queue("telemetry").guarantee(AtMostOnce);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// A message is acked on arrival, and dropped if the broker delivers it again. It is never handled twice. It is
    /// lost if its handler fails, the process dies, or the ack does not reach the broker.
    AtMostOnce,
    /// A message is acked after its handler is done (the default). It is never lost. It is handled again if the ack
    /// does not reach the broker.
    #[default]
    AtLeastOnce,
}

pub use Guarantee::{AtLeastOnce, AtMostOnce};
