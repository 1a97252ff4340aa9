//! A message of one of several types, and the codec that reads it.

use std::{
    any::{Any, type_name},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use bytes::Bytes;
use fluffle_wire::{Codec, ContentType, DecodeError, EncodeError, Label, Wire};

use crate::base::payload::Payload;

/// A message of one of the types `L`, which is a tuple of 1 to 12 message types. For a queue that carries several
/// types.
///
/// The message's `type` property says which one it is, or else the `proto` parameter of its `content_type`. A message
/// of another type, or without a type, becomes a dead letter; see
/// [`skip_other_types`](crate::Consume::skip_other_types) and [`Raw`](crate::Raw) for other ways.
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
///
/// A publisher of `OneOf` keeps the order of messages of different types, which two publishers do not. In batches,
/// messages of different types share an envelope:
///
/// ```
/// use fluffle_amqp::{OneOf, PublishError, Publisher};
///
/// # async fn example(
/// #     order: String, failure: u32, events: Publisher<OneOf<(String, u32)>>,
/// # ) -> Result<(), PublishError<OneOf<(String, u32)>>> {
/// events.publish(OneOf::new(order)).await?;
/// events.publish(OneOf::new(failure)).await?;
/// # Ok(())
/// # }
/// ```
pub struct OneOf<L> {
    message: Box<dyn Any + Send + Sync>,
    name: &'static str,
    /// The place of the type in `L`.
    place: usize,
    types: PhantomData<fn() -> L>,
}

impl<L> OneOf<L> {
    /// A message of one of the types. `I` is found by the compiler; it need not be named, unless a type is in `L`
    /// twice.
    pub fn new<T: Payload, I>(message: T) -> Self
    where
        L: Contains<T, I>,
    {
        Self { message: Box::new(message), name: type_name::<T>(), place: L::PLACE, types: PhantomData }
    }

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
        let Self { message, name, place, types } = self;
        message.downcast().map(|message| *message).map_err(|message| Self { message, name, place, types })
    }
}

impl<L> fmt::Debug for OneOf<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneOf").field(&self.name).finish()
    }
}

impl<L: Types> Payload for OneOf<L> {
    fn wire() -> Wire<Self> {
        Wire::new(EachType::new(L::readers()))
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

/// A tuple that has `T` among its types, at the place `I`.
#[diagnostic::on_unimplemented(
    message = "`{T}` is none of the types `{Self}`",
    label = "a `OneOf` of `{Self}` holds a message of one of these types"
)]
pub trait Contains<T, I> {
    /// The place of `T`, from 0.
    #[doc(hidden)]
    const PLACE: usize;
}

/// The place of a type in a tuple.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place<const I: usize>;

macro_rules! contains {
    ($all:tt $($T:ident $place:literal)+) => {
        $(contains!(@one $all $T $place);)+
    };
    (@one ($($All:ident)+) $T:ident $place:literal) => {
        impl<$($All: Payload),+> Contains<$T, Place<$place>> for ($($All,)+) {
            const PLACE: usize = $place;
        }
    };
}

contains!((A) A 0);
contains!((A B) A 0 B 1);
contains!((A B C) A 0 B 1 C 2);
contains!((A B C D) A 0 B 1 C 2 D 3);
contains!((A B C D E) A 0 B 1 C 2 D 3 E 4);
contains!((A B C D E F) A 0 B 1 C 2 D 3 E 4 F 5);
contains!((A B C D E F G) A 0 B 1 C 2 D 3 E 4 F 5 G 6);
contains!((A B C D E F G H) A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
contains!((A B C D E F G H I) A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8);
contains!((A B C D E F G H I J) A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9);
contains!((A B C D E F G H I J K) A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10);
contains!((A B C D E F G H I J K M) A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 M 11);

/// Reads and writes messages of one of the types of a tuple.
#[doc(hidden)]
pub struct TypeReader(Box<dyn ReadType>);

trait ReadType: Send + Sync {
    fn name(&self) -> &str;
    fn media_type(&self) -> &str;
    fn reads(&self, type_name: &str) -> bool;
    fn read(&self, label: &Label<'_>, body: &Bytes) -> Result<ReadAny, DecodeError>;
    fn write(&self, message: &dyn Any, into: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A message, and the name of its type in Rust.
type ReadAny = (Box<dyn Any + Send + Sync>, &'static str);

impl<T: Payload> ReadType for Wire<T> {
    fn name(&self) -> &str {
        self.type_name()
    }

    fn media_type(&self) -> &str {
        ContentType::parse(self.content_type()).media_type()
    }

    fn reads(&self, type_name: &str) -> bool {
        self.reads_type(type_name)
    }

    fn read(&self, label: &Label<'_>, body: &Bytes) -> Result<ReadAny, DecodeError> {
        Ok((Box::new(self.decode_labelled(label, body)?), type_name::<T>()))
    }

    fn write(&self, message: &dyn Any, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        match message.downcast_ref() {
            Some(message) => self.encode_bytes(message, into),
            None => Err(EncodeError::unrepresentable(self.type_name(), "the message is of another type")),
        }
    }
}

/// The codec of [`OneOf`]: each type is read and written as it is by itself.
struct EachType {
    readers: Vec<TypeReader>,
    names: Vec<Arc<str>>,
}

impl EachType {
    fn new(readers: Vec<TypeReader>) -> Self {
        let names = readers.iter().map(|reader| reader.0.name().into()).collect();
        Self { readers, names }
    }

    /// The place and the reader of messages of this type. A type that is named comes before one that reads any type.
    fn reader(&self, type_name: &str) -> Option<(usize, &dyn ReadType)> {
        let readers = || self.readers.iter().map(|reader| &*reader.0).enumerate();
        let named = readers().find(|(_, reader)| reader.name() == type_name);
        named.or_else(|| readers().find(|(_, reader)| reader.reads(type_name)))
    }
}

impl<L: 'static> Codec<OneOf<L>> for EachType {
    fn media_type(&self) -> &str {
        "application/vnd.google.protobuf"
    }

    fn type_name(&self) -> String {
        self.names.join(" | ")
    }

    /// Any. Whether the type of the message can be read from this format is known when its reader is found.
    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn reads_type(&self, type_name: &str) -> bool {
        self.reader(type_name).is_some()
    }

    fn media_type_of(&self, message: &OneOf<L>) -> &str {
        self.readers.get(message.place).map_or("", |reader| reader.0.media_type())
    }

    fn type_of(&self, message: &OneOf<L>) -> Option<Arc<str>> {
        self.names.get(message.place).cloned()
    }

    fn encode(&self, message: &OneOf<L>, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.readers.get(message.place) {
            Some(writer) => writer.0.write(&*message.message, into),
            None => Err(EncodeError::unrepresentable(message.name, "it is none of the types")),
        }
    }

    fn decode(&self, body: &Bytes) -> Result<OneOf<L>, DecodeError> {
        self.decode_labelled(&Label::default(), body)
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<OneOf<L>, DecodeError> {
        // Only a reader of any type reads a message without one.
        let Some((place, reader)) = self.reader(label.type_name.unwrap_or_default()) else {
            return Err(DecodeError::untyped(self.names.iter().map(|name| &**name)));
        };
        let (message, name) = reader.read(label, body)?;
        Ok(OneOf { message, name, place, types: PhantomData })
    }
}
