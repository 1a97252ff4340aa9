//! A message in queues. Queues share it; body and properties stay encoded as they came.

use std::{ops::Range, rc::Rc};

use bytes::Bytes;

use super::{
    memory::{Charge, Memory},
    table::{self, Reader, Table},
};

/// A content property: the bit of its flag (AMQP 0-9-1 section 4.2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    ClusterId = 2,
    AppId,
    UserId,
    Type,
    Timestamp,
    MessageId,
    Expiration,
    ReplyTo,
    CorrelationId,
    Priority,
    DeliveryMode,
    Headers,
    ContentEncoding,
    ContentType,
}

/// The order of the properties in a property list.
const ORDER: [Property; 14] = [
    Property::ContentType,
    Property::ContentEncoding,
    Property::Headers,
    Property::DeliveryMode,
    Property::Priority,
    Property::CorrelationId,
    Property::ReplyTo,
    Property::Expiration,
    Property::MessageId,
    Property::Timestamp,
    Property::Type,
    Property::UserId,
    Property::AppId,
    Property::ClusterId,
];

/// The flag bits that stand for a property. RabbitMQ ignores the other two bits. The last of them would announce more
/// flags.
const KNOWN: u16 = !0b11;

impl Property {
    fn flag(self) -> u16 {
        1 << self as u16
    }

    /// Skips an encoded value. A table must be sound.
    fn pass(self, reader: &mut Reader<'_>) -> Option<()> {
        match self {
            Self::DeliveryMode | Self::Priority => reader.skip(1),
            Self::Timestamp => reader.skip(8),
            Self::Headers => reader.long().filter(|fields| table::is_sound(fields)).map(|_| ()),
            _ => reader.short().map(|_| ()),
        }
    }
}

/// The content properties, encoded as the publisher sent them, with those values that the broker itself reads.
#[derive(Clone, Debug)]
pub(crate) struct Properties {
    /// Property flags and values, as in a content header frame.
    raw: Bytes,
    /// The range of the headers in `raw`, without their length.
    headers: Option<Range<u32>>,
    expiration: Option<Range<u32>>,
    user_id: Option<Range<u32>>,
    reply_to: Option<Range<u32>>,
    /// 2 for persistent.
    pub(crate) mode: Option<u8>,
    pub(crate) priority: u8,
}

impl Properties {
    /// Checks an encoded property list, and notes the values that the broker needs. Returns `None` if RabbitMQ could
    /// not read it. Texts may be any bytes.
    /// Texts may be any bytes.
    pub(crate) fn scan(raw: Bytes) -> Option<Self> {
        let mut found =
            Self { raw, headers: None, expiration: None, user_id: None, reply_to: None, mode: None, priority: 0 };
        let raw = found.raw.clone();
        let mut reader = Reader::new(&raw);
        let flags = reader.u16()?;
        for property in ORDER {
            if flags & property.flag() == 0 {
                continue;
            }
            let start = raw.len() - reader.left();
            property.pass(&mut reader)?;
            let end = raw.len() - reader.left();
            // The length before a short string takes one octet, the length before a table four.
            let behind = |length: usize| Some((start + length) as u32..end as u32);
            match property {
                Property::Headers => found.headers = behind(4),
                Property::Expiration => found.expiration = behind(1),
                Property::UserId => found.user_id = behind(1),
                Property::ReplyTo => found.reply_to = behind(1),
                Property::DeliveryMode => found.mode = raw.get(start).copied(),
                Property::Priority => found.priority = raw.get(start).copied().unwrap_or_default(),
                _ => {}
            }
        }
        reader.is_empty().then_some(found)
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.mode == Some(2)
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    fn at(&self, range: Option<&Range<u32>>) -> Option<&[u8]> {
        let Range { start, end } = range?;
        self.raw.get(*start as usize..*end as usize)
    }

    pub(crate) fn expiration(&self) -> Option<&[u8]> {
        self.at(self.expiration.as_ref())
    }

    pub(crate) fn user_id(&self) -> Option<&[u8]> {
        self.at(self.user_id.as_ref())
    }

    pub(crate) fn reply_to(&self) -> Option<&[u8]> {
        self.at(self.reply_to.as_ref())
    }

    /// The headers, without a copy; empty if there are none.
    pub(crate) fn headers(&self) -> Table {
        match &self.headers {
            Some(range) => Table::sound(self.raw.slice(range.start as usize..range.end as usize)),
            None => Table::default(),
        }
    }

    /// A property's encoded value.
    pub(crate) fn value(&self, property: Property) -> Option<&[u8]> {
        self.raw.get(self.place(property)).filter(|value| !value.is_empty())
    }

    /// A property that is a short string.
    pub(crate) fn short(&self, property: Property) -> Option<&[u8]> {
        self.value(property)?.get(1..)
    }

    /// The range of a property, or the place where it would be.
    fn place(&self, wanted: Property) -> Range<usize> {
        let mut reader = Reader::new(&self.raw);
        let flags = reader.u16().unwrap_or_default();
        let place = |reader: &Reader<'_>| self.raw.len() - reader.left();
        for property in ORDER {
            let start = place(&reader);
            if flags & property.flag() != 0 && property.pass(&mut reader).is_none() {
                return start..start;
            }
            if property == wanted {
                return start..place(&reader);
            }
        }
        self.raw.len()..self.raw.len()
    }

    /// Returns these properties with another encoded value for one of them, or without it.
    pub(crate) fn with(&self, property: Property, value: Option<&[u8]>) -> Option<Self> {
        let place = self.place(property);
        let flags = Reader::new(&self.raw).u16()? & KNOWN;
        let flags = if value.is_some() { flags | property.flag() } else { flags & !property.flag() };
        let (before, after) = (self.raw.get(2..place.start)?, self.raw.get(place.end..)?);
        Self::scan([&flags.to_be_bytes()[..], before, value.unwrap_or_default(), after].concat().into())
    }

    /// Returns these properties with other headers.
    pub(crate) fn with_headers(&self, headers: &Table) -> Option<Self> {
        self.with(Property::Headers, Some(&headers.encode()))
    }
}

/// A header that the broker adds to a delivery: its name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddedHeader(&'static str, i64);

impl AddedHeader {
    /// How many deliveries of a message of a quorum queue were returned.
    pub(crate) fn delivery_count(count: u32) -> Self {
        Self("x-delivery-count", count.into())
    }

    /// The place of a message in its stream.
    pub(crate) fn stream_offset(offset: u64) -> Self {
        Self("x-stream-offset", i64::try_from(offset).unwrap_or(i64::MAX))
    }
}

/// One message: published once, and shared by every queue to which it was routed.
#[derive(Debug)]
pub(crate) struct Message {
    /// The exchange to which it was published.
    pub(crate) exchange: Rc<str>,
    /// The routing key. It may be any bytes, because RabbitMQ does not check the routing key of a publish.
    pub(crate) key: Rc<[u8]>,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// Its TTL in milliseconds.
    pub(crate) ttl: Option<u64>,
    charge: Charge,
}

impl Message {
    pub(crate) fn new(
        memory: &Memory,
        (exchange, key): (Rc<str>, Rc<[u8]>),
        properties: Properties,
        body: Bytes,
        ttl: Option<u64>,
    ) -> Self {
        let charge = memory.charge(body.len() + properties.raw.len());
        Self { exchange, key, properties, body, ttl, charge }
    }

    /// A message with the same body and another exchange, routing key and properties.
    pub(super) fn copy(&self, place: (Rc<str>, Rc<[u8]>), properties: Properties, ttl: Option<u64>) -> Self {
        Self::new(self.charge.memory(), place, properties, self.body.clone(), ttl)
    }

    /// How many bytes its body, properties, exchange and routing key take.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.body.len() + self.properties.raw.len() + self.exchange.len() + self.key.len()
    }

    /// The property list for the wire, with a header that the broker adds to this delivery.
    pub(crate) fn delivered_properties(&self, header: Option<AddedHeader>) -> Bytes {
        let extended = header.and_then(|AddedHeader(name, value)| {
            let headers = self.properties.headers().canonical().with(name, &table::long(value));
            self.properties.with_headers(&headers)
        });
        extended.as_ref().unwrap_or(&self.properties).raw.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property, each with different bytes.
    fn all() -> Properties {
        let list = [&b"\xff\xfc\x01a\x01b"[..], b"\0\0\0\x03\x01kV", b"\x02\x05\x01c\x01d\x01e\x01f\0\0\0\0\0\0\0\x07"];
        Properties::scan([&list.concat()[..], b"\x01g\x01h\x01i\x01j"].concat().into()).unwrap()
    }

    #[test]
    fn every_property_is_found_and_leaves_the_others_as_they_were() {
        let all = all();
        for property in ORDER {
            let value = all.value(property).unwrap();
            let without = all.with(property, None).unwrap();
            assert_eq!(without.value(property), None);
            assert_eq!(without.with(property, Some(value)).unwrap().raw, all.raw, "{property:?}");
        }
        assert_eq!((all.expiration(), all.short(Property::ClusterId)), (Some(&b"e"[..]), Some(&b"j"[..])));
    }

    #[test]
    fn flags_without_a_meaning_change_nothing_and_are_not_written_again() {
        let odd = Properties::scan(Bytes::from_static(b"\x00\x83\x01a")).unwrap();
        assert_eq!(odd.with(Property::AppId, Some(b"\x01b")).unwrap().raw, b"\x00\x88\x01a\x01b"[..]);
    }
}
