//! Reading the headers of an AMQP message.

use fluffle_wire::headers::HeaderValue;
use lapin::{BasicProperties, types::AMQPValue};

/// One AMQP header value, read as text or as an integer.
pub(crate) struct AmqpHeader<'a>(pub(crate) &'a AMQPValue);

impl<'a> AmqpHeader<'a> {
    /// The text of a string that is UTF-8; `None` for any other value.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.0 {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The value of an integer of any width, or of a timestamp; `None` if it is neither, or does not fit into 64 signed
    /// bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        match *self.0 {
            AMQPValue::ShortShortInt(n) => Some(n.into()),
            AMQPValue::ShortShortUInt(n) => Some(n.into()),
            AMQPValue::ShortInt(n) => Some(n.into()),
            AMQPValue::ShortUInt(n) => Some(n.into()),
            AMQPValue::LongInt(n) => Some(n.into()),
            AMQPValue::LongUInt(n) => Some(n.into()),
            AMQPValue::LongLongInt(n) => Some(n),
            AMQPValue::Timestamp(n) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// The value in the form in which `fluffle-wire` reads headers.
    pub(crate) fn value(&self) -> Option<HeaderValue<'a>> {
        self.integer().map(HeaderValue::Int).or_else(|| self.text().map(HeaderValue::Str))
    }
}

/// The header `name` of a message with these properties.
pub(crate) fn lookup<'a>(properties: &'a BasicProperties, name: &str) -> Option<AmqpHeader<'a>> {
    properties.headers().as_ref()?.inner().get(name).map(AmqpHeader)
}
