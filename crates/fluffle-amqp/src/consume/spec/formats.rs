//! Which formats and types a consumer reads, beside its own.

use fluffle_wire::{Codec, Wrapper};

use crate::consume::spec::consume::Consume;

impl<T, R> Consume<T, R> {
    /// Also reads messages that come in this [wrapper](Wrapper) of others: CloudEvents, MassTransit, Celery, …
    /// Nothing is guessed: a consumer reads only the wrappers that it names, and a message that is in none of them is
    /// read as it is. Retry copies and dead letters keep the message as it came.
    ///
    /// Several wrappers are asked in the order in which they were added. Each recognizes its messages by their labels.
    /// A message that is labelled as one and is not becomes a dead letter that says what is wrong. Batches are
    /// Fluffle's own format, so no wrapper is asked for them.
    ///
    /// If the wrapper tells the trace of the message, and its headers do not,
    /// [`Delivery::trace`](crate::Delivery::trace) is that one. An answer to a request is in the format of the message
    /// inside, and in no wrapper.
    ///
    /// The types in wrappers seldom have Protobuf names: see [`type_alias`](Self::type_alias). The wrappers of
    /// [`fluffle_wire::wrappers`] need the feature `json`, which is on by default.
    ///
    /// ```
    /// use fluffle_amqp::{Consume, Payload};
    /// use fluffle_wire::wrappers::{CloudEvents, MassTransit};
    ///
    /// # fn example<OrderPlaced: Payload>() -> Consume<OrderPlaced> {
    /// Consume::queue("orders")
    ///     .accepts(CloudEvents)
    ///     .type_alias("com.shop.order.placed", "shop.v1.OrderPlaced")
    ///     .accepts(MassTransit)
    ///     .type_alias("Shop.Orders.OrderPlaced", "shop.v1.OrderPlaced")
    /// # }
    /// ```
    #[must_use]
    pub fn accepts(mut self, wrapper: impl Wrapper + 'static) -> Self {
        self.wire = self.wire.accepts(wrapper);
        self
    }

    /// Also reads bodies in the format of `codec`, if their `content_type` names it. A body without `content_type` is
    /// read in the first format: that of the message type, or of [`coded`](Self::coded).
    ///
    /// ```
    /// use fluffle_amqp::Consume;
    /// # use bytes::Bytes;
    /// # use fluffle_wire::{Codec, DecodeError, EncodeError};
    /// # struct Reading(String);
    /// # struct Csv;
    /// # impl Codec<Reading> for Csv {
    /// #     fn media_type(&self) -> &str { "text/csv" }
    /// #     fn type_name(&self) -> String { "example.Reading".into() }
    /// #     fn encode(&self, _: &Reading, _: &mut Vec<u8>) -> Result<(), EncodeError> { Ok(()) }
    /// #     fn decode(&self, _: &Bytes) -> Result<Reading, DecodeError> { Ok(Reading(String::new())) }
    /// # }
    /// # #[derive(Clone, Copy)] struct Binary;
    /// # impl Codec<Reading> for Binary {
    /// #     fn media_type(&self) -> &str { "application/x-reading" }
    /// #     fn type_name(&self) -> String { "example.Reading".into() }
    /// #     fn encode(&self, _: &Reading, _: &mut Vec<u8>) -> Result<(), EncodeError> { Ok(()) }
    /// #     fn decode(&self, _: &Bytes) -> Result<Reading, DecodeError> { Ok(Reading(String::new())) }
    /// # }
    /// let readings: Consume<Reading> = Consume::coded(Binary, "readings").reads(Csv);
    /// ```
    #[must_use]
    pub fn reads(mut self, codec: impl Codec<T> + 'static) -> Self {
        self.wire = self.wire.reads(codec);
        self
    }

    /// Reads only the format of its message type: no JSON beside Protobuf, and none of what
    /// [`reads`](Self::reads) and [`accepts`](Self::accepts) added before. Any other format becomes a dead letter.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.wire = self.wire.strict();
        self
    }

    /// Also reads messages whose `type` (or `proto` parameter of `content_type`) is `alias`, as messages of type
    /// `type_name`: for a type that was renamed, and for the names that others use. May be called several times.
    /// `type_name` must be a type of this consumer; the consumer is refused at the start if it is not.
    ///
    /// ```
    /// use fluffle_amqp::{Consume, Payload};
    ///
    /// # fn example<OrderPlaced: Payload>() -> Consume<OrderPlaced> {
    /// Consume::queue("orders")
    ///     .type_alias("shop.v1.Order", "shop.v2.OrderPlaced")       // its name until it was renamed
    ///     .type_alias("order-placed", "shop.v2.OrderPlaced")        // what the Node service calls it
    /// # }
    /// ```
    #[must_use]
    pub fn type_alias(mut self, alias: impl Into<String>, type_name: impl Into<String>) -> Self {
        let (alias, type_name) = (alias.into(), type_name.into());
        self.aliased.push(type_name.clone());
        self.wire = self.wire.type_alias(alias, type_name);
        self
    }

    /// Acks a message of another type, or of a queue of several types one without a type, and gives it to no handler.
    /// By default such a message becomes a dead letter. [`ConsumerStats::skipped`](crate::ConsumerStats::skipped)
    /// counts them, and each is logged at `debug`. A request of another type is never skipped, because its sender waits
    /// for an answer: it is refused.
    ///
    /// Use it for a queue that is bound to more than this consumer wants. A message whose type is misspelled is skipped
    /// too. To look at the others instead, add [`Raw`](crate::Raw) to the types.
    #[must_use]
    pub fn skip_other_types(mut self) -> Self {
        self.skips_other_types = true;
        self
    }
}
