//! A message of one of several types, and the codec that reads it.

use std::{
    any::{Any, type_name},
    fmt,
    marker::PhantomData,
};

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeError, EncodeError, Label, Wire};

use crate::base::payload::Payload;

/// A message of one of the types `L`, which is a tuple of 1 to 12 message types. For a queue that carries several types.
///
/// The message's `type` property says which one it is, or else the `proto` parameter of its `content_type`. A message of
/// another type, or without a type, becomes a dead letter; see [`skip_other_types`](crate::Consume::skip_other_types) and
/// [`Raw`](crate::Raw) for other ways. `OneOf` is for consuming; a publisher sends one type.
///
/// Most consumers give each type to a handler of its own (`consume_types`), and never see a `OneOf`. A batch handler
/// gets a [`DeliveryBatch`](crate::DeliveryBatch) of them, and so does the function of
/// [`ordered_by`](crate::Consume::ordered_by):
///
/// ```
/// use fluffle_amqp::{Consume, OneOf, Payload};
///
/// # fn example<OrderPlaced: Payload, PaymentFailed: Payload>(
/// #     order: fn(&OrderPlaced) -> u64, of: fn(&PaymentFailed) -> u64,
/// # ) {
/// let events = Consume::<OneOf<(OrderPlaced, PaymentFailed)>>::queue("orders.events").ordered_by(move |event| {
///     let placed = event.get::<OrderPlaced>().map(order);
///     placed.or_else(|| event.get::<PaymentFailed>().map(of))
/// });
/// # }
/// ```
pub struct OneOf<L> {
    message: Box<dyn Any + Send + Sync>,
    name: &'static str,
    types: PhantomData<fn() -> L>,
}

impl<L> OneOf<L> {
    /// The message, if it is a `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.message.downcast_ref()
    }

    /// Whether the message is a `T`.
    pub fn is<T: 'static>(&self) -> bool {
        self.message.is::<T>()
    }

    /// The message itself.
    ///
    /// # Errors
    /// The unchanged `OneOf`, if the message is not a `T`.
    pub fn take<T: 'static>(self) -> Result<T, Self> {
        let Self { message, name, types } = self;
        message.downcast().map(|message| *message).map_err(|message| Self { message, name, types })
    }
}

impl<L> fmt::Debug for OneOf<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneOf").field(&self.name).finish()
    }
}

impl<L: Types> Payload for OneOf<L> {
    fn wire() -> Wire<Self> {
        Wire::new(EachType(L::readers()))
    }
}

/// A tuple of 1 to 12 [payloads](Payload). Implemented for all of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of message types",
    label = "needs a tuple of 1 to 12 types that implement `Payload`: `OneOf<(OrderPlaced, PaymentFailed)>`",
    note = "a single type in a tuple is written with a comma: `OneOf<(OrderPlaced,)>`"
)]
pub trait Types: Sized + 'static {
    /// The readers of the types, in order.
    #[doc(hidden)]
    fn readers() -> Vec<TypeReader>;
}

macro_rules! types {
    ($($T:ident)+) => {
        impl<$($T: Payload),+> Types for ($($T,)+) {
            fn readers() -> Vec<TypeReader> {
                vec![$(TypeReader(Box::new($T::wire()))),+]
            }
        }
    };
}

types!(A);
types!(A B);
types!(A B C);
types!(A B C D);
types!(A B C D E);
types!(A B C D E F);
types!(A B C D E F G);
types!(A B C D E F G H);
types!(A B C D E F G H I);
types!(A B C D E F G H I J);
types!(A B C D E F G H I J K);
types!(A B C D E F G H I J K M);

/// Reads messages of one of the types of a tuple.
#[doc(hidden)]
pub struct TypeReader(Box<dyn ReadType>);

trait ReadType: Send + Sync {
    fn name(&self) -> &str;
    fn reads(&self, type_name: &str) -> bool;
    fn read(&self, label: &Label<'_>, body: &Bytes) -> Result<ReadAny, DecodeError>;
}

/// A message, and the name of its type in Rust.
type ReadAny = (Box<dyn Any + Send + Sync>, &'static str);

impl<T: Payload> ReadType for Wire<T> {
    fn name(&self) -> &str {
        self.type_name()
    }

    fn reads(&self, type_name: &str) -> bool {
        self.reads_type(type_name)
    }

    fn read(&self, label: &Label<'_>, body: &Bytes) -> Result<ReadAny, DecodeError> {
        Ok((Box::new(self.decode_labelled(label, body)?), type_name::<T>()))
    }
}

/// The codec of [`OneOf`]: each type is read as it is by itself.
struct EachType(Vec<TypeReader>);

impl EachType {
    /// The reader of messages of this type. A type that is named comes before one that reads any type.
    fn reader(&self, type_name: &str) -> Option<&dyn ReadType> {
        let readers = || self.0.iter().map(|reader| &*reader.0);
        readers().find(|reader| reader.name() == type_name).or_else(|| readers().find(|reader| reader.reads(type_name)))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|reader| reader.0.name())
    }
}

impl<L: 'static> Codec<OneOf<L>> for EachType {
    fn media_type(&self) -> &str {
        "application/vnd.google.protobuf"
    }

    fn type_name(&self) -> String {
        self.names().collect::<Vec<_>>().join(" | ")
    }

    /// Any. Whether the type of the message can be read from this format is known when its reader is found.
    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn reads_type(&self, type_name: &str) -> bool {
        self.reader(type_name).is_some()
    }

    fn encode(&self, message: &OneOf<L>, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        let why = "`OneOf` is for consuming: publish the message itself, with a publisher of its own type";
        Err(EncodeError::unrepresentable(message.name, why))
    }

    fn decode(&self, body: &Bytes) -> Result<OneOf<L>, DecodeError> {
        self.decode_labelled(&Label::default(), body)
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<OneOf<L>, DecodeError> {
        // Only a reader of any type reads a message without one.
        let Some(reader) = self.reader(label.type_name.unwrap_or_default()) else {
            return Err(DecodeError::untyped(self.names()));
        };
        let (message, name) = reader.read(label, body)?;
        Ok(OneOf { message, name, types: PhantomData })
    }
}
