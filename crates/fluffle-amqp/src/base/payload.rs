//! Which types can be published and consumed, with the compiler's hints for a type that cannot.

use fluffle_wire::Wire;
use prost::{Message, Name};

/// A type that says how its messages are written and read: publishers, consumers and requesters take it without naming
/// a codec, and so do the answers to requests.
///
/// Implemented for every prost message that was generated with type names, as `fluffle-build` does: those are Protobuf.
/// For a type in another format, implement it by hand. A type of serde, as JSON:
///
/// ```
/// use fluffle_amqp::{Consume, Payload, Route};
/// use fluffle_wire::Wire;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct OrderPlaced { order_id: String, cents: u64 }
///
/// impl Payload for OrderPlaced {
///     fn wire() -> Wire<Self> { Wire::serde_json("shop.OrderPlaced") }
/// }
///
/// let out = Route::<OrderPlaced>::queue("orders");
/// let orders = Consume::<OrderPlaced>::queue("orders");
/// # let _ = (out, orders);
/// ```
///
/// A type with a codec of your own:
///
/// ```
/// use bytes::Bytes;
/// use fluffle_amqp::{Consume, Payload, Route};
/// use fluffle_wire::{Codec, DecodeError, EncodeError, Wire};
///
/// struct Reading(f64);
///
/// /// Readings as plain text.
/// struct Text;
///
/// impl Codec<Reading> for Text {
///     fn media_type(&self) -> &str { "text/plain" }
///     fn type_name(&self) -> String { "example.Reading".into() }
///     fn encode(&self, reading: &Reading, into: &mut Vec<u8>) -> Result<(), EncodeError> {
///         into.extend_from_slice(reading.0.to_string().as_bytes());
///         Ok(())
///     }
///     fn decode(&self, body: &Bytes) -> Result<Reading, DecodeError> {
///         let number = String::from_utf8_lossy(body).parse::<f64>();
///         number.map(Reading).map_err(|error| DecodeError::malformed("example.Reading", error))
///     }
/// }
///
/// impl Payload for Reading {
///     fn wire() -> Wire<Self> { Wire::new(Text) }
/// }
///
/// let readings = Route::<Reading>::queue("readings");
/// let asked_for = Consume::<String, Reading>::queue("stations"); // a handler's answer is written by the same codec
/// # let _ = (readings, asked_for);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Protobuf message with a name",
    label = "needs `prost::Message`, `prost::Name` and `Default`",
    note = "generate it from a .proto file with `fluffle_build::compile` (prost with type names)",
    note = "or bring a codec of your own: implement `Payload`, or use `Route::coded` and `Consume::coded`"
)]
pub trait Payload: Sized + Send + Sync + 'static {
    /// How messages of this type are written and read.
    fn wire() -> Wire<Self>;
}

impl<M: Message + Name + Default + 'static> Payload for M {
    fn wire() -> Wire<M> {
        Wire::protobuf()
    }
}
