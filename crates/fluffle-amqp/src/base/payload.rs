//! Which types can be published and consumed, with the compiler's hints for a type that cannot.

use prost::{Message, Name};

/// A Protobuf message with a type name: publishers and consumers take it without naming a codec.
///
/// Implemented for every prost message that was generated with type names, as `fluffle-build` does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Protobuf message with a name",
    label = "needs `prost::Message`, `prost::Name` and `Default`",
    note = "generate it from a .proto file with `fluffle_build::compile` (prost with type names)",
    note = "or bring a codec of your own: `Route::coded`, `Consume::coded`"
)]
pub trait Payload: Message + Name + Default + 'static {}

impl<M: Message + Name + Default + 'static> Payload for M {}
