//! A message as it lies in queues: shared between them, its body and properties as they came.

use std::rc::Rc;

use amq_protocol::{
    frame::{GenError, WriteContext},
    protocol::basic::{AMQPProperties, gen_properties, parse_properties},
    types::FieldTable,
};
use bytes::Bytes;

use super::{
    memory::{Charge, Memory},
    refusal::Refusal,
    table,
};

/// The content properties, encoded as the publisher sent them, and what the broker itself reads of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    /// Property flags and values, as in a content header frame.
    pub(crate) raw: Bytes,
    pub(crate) persistent: bool,
    pub(crate) priority: u8,
    pub(crate) has_headers: bool,
    pub(crate) expiration: Option<Box<str>>,
    pub(crate) user_id: Option<Box<str>>,
    pub(crate) reply_to: Option<Box<str>>,
}

impl Properties {
    /// Checks an encoded property list and reads what concerns the broker.
    pub(crate) fn scan(raw: Bytes) -> Result<Self, Refusal> {
        let mut reader = table::Reader::new(&raw);
        match Self::read(&mut reader) {
            Some(found) if reader.is_empty() => Ok(Self { raw, ..found }),
            _ => Err(Refusal::syntax("malformed content properties")),
        }
    }

    fn read(reader: &mut table::Reader<'_>) -> Option<Self> {
        let mut found = Self::default();
        let flags = reader.u16()?;
        // Bit 0 would announce a second word of flags: AMQP 0-9-1 has no property for it.
        if flags & 0b11 != 0 {
            return None;
        }
        let has = |bit: u16| flags & (1 << bit) != 0;
        let skip_text = |reader: &mut table::Reader<'_>, bit: u16| {
            if has(bit) { reader.short_text().map(|_| ()) } else { Some(()) }
        };
        skip_text(reader, 15)?;
        skip_text(reader, 14)?;
        if has(13) {
            found.has_headers = true;
            reader.table()?;
        }
        if has(12) {
            found.persistent = reader.u8()? == 2;
        }
        if has(11) {
            found.priority = reader.u8()?;
        }
        skip_text(reader, 10)?;
        if has(9) {
            found.reply_to = Some(reader.short_text()?.into());
        }
        if has(8) {
            found.expiration = Some(reader.short_text()?.into());
        }
        skip_text(reader, 7)?;
        if has(6) {
            reader.skip(8)?;
        }
        skip_text(reader, 5)?;
        if has(4) {
            found.user_id = Some(reader.short_text()?.into());
        }
        skip_text(reader, 3)?;
        skip_text(reader, 2)?;
        Some(found)
    }

    /// All properties, decoded. What `scan` let pass always decodes.
    pub(crate) fn decode(&self) -> AMQPProperties {
        parse_properties(&self.raw[..]).map(|(_, properties)| properties).unwrap_or_default()
    }

    /// The header table, decoded; empty when there is none.
    pub(crate) fn headers(&self) -> FieldTable {
        if !self.has_headers {
            return FieldTable::default();
        }
        self.decode().headers().clone().unwrap_or_default()
    }

    /// These properties with others in their place, encoded anew.
    pub(crate) fn encode(properties: &AMQPProperties) -> Option<Self> {
        let written: Result<_, GenError> = gen_properties(properties)(WriteContext::from(Vec::new()));
        let (raw, _) = written.ok()?.into_inner();
        Self::scan(raw.into()).ok()
    }
}

/// One message: published once, referred to by every queue it was routed to.
#[derive(Debug)]
pub(crate) struct Message {
    /// The exchange it was published to.
    pub(crate) exchange: Rc<str>,
    pub(crate) key: Rc<str>,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// Its own time to live in milliseconds.
    pub(crate) ttl: Option<u64>,
    charge: Charge,
}

impl Message {
    pub(crate) fn new(
        memory: &Memory,
        (exchange, key): (Rc<str>, Rc<str>),
        properties: Properties,
        body: Bytes,
        ttl: Option<u64>,
    ) -> Self {
        let charge = memory.charge(body.len() + properties.raw.len());
        Self { exchange, key, properties, body, ttl, charge }
    }

    /// A message with the same body and another envelope.
    pub(super) fn copy(&self, place: (Rc<str>, Rc<str>), properties: Properties, ttl: Option<u64>) -> Self {
        Self::new(self.charge.memory(), place, properties, self.body.clone(), ttl)
    }

    /// A property list and a body for the wire; for a quorum queue with the count of earlier deliveries.
    pub(crate) fn properties_with_delivery_count(&self, count: u32) -> Bytes {
        use amq_protocol::types::AMQPValue::LongLongInt;
        let properties = self.properties.decode();
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert("x-delivery-count".into(), LongLongInt(count.into()));
        Properties::encode(&properties.with_headers(headers)).map_or_else(|| self.properties.raw.clone(), |new| new.raw)
    }
}
