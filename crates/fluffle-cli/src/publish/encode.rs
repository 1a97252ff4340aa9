//! Drafts as bytes: Protobuf from JSON, gzip, and labels as `docs/WIRE.md` describes them.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use fluffle::{
    amqp::{Prepared, bare},
    wire::{Codec, ContentType, DecodeError, EncodeError, Encoded, Gzip, Limits, Wire, headers},
};
use lapin::{BasicProperties, types::AMQPValue};
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use uuid::Uuid;

use crate::{
    message::properties::Properties,
    publish::{
        args::Compress,
        draft::{Body, Draft},
    },
};

const PROTOBUF: &str = "application/vnd.google.protobuf";
const JSON: &str = "application/json";

/// A body and its labels.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) type_name: Option<Arc<str>>,
    pub(crate) body: Bytes,
}

/// Encodes messages.
pub(crate) struct Encoder {
    pool: DescriptorPool,
    wire: Wire<Piece>,
    mandatory: bool,
}

impl Encoder {
    pub(crate) fn new(pool: DescriptorPool, gzip: Compress, mandatory: bool) -> Self {
        let gzip = match gzip {
            Compress::Off => Gzip::Off,
            Compress::Auto => Gzip::auto(),
            Compress::On => Gzip::on(),
        };
        Self { pool, wire: Wire::new(AsItIs).gzip(gzip), mandatory }
    }

    /// How messages become batches.
    pub(crate) fn wire(&self) -> &Wire<Piece> {
        &self.wire
    }

    /// The body and its labels.
    pub(crate) fn piece(&self, draft: &Draft) -> Result<Piece, String> {
        let type_name = draft.properties.type_name.as_deref();
        let given = draft.properties.content_type.as_deref();
        let (label, body) = match &draft.body {
            Body::Bytes(bytes) => (None, Bytes::from(bytes.clone())),
            Body::Json(json) => match self.descriptor(type_name, given)? {
                Some(descriptor) => {
                    let mut text = serde_json::Deserializer::from_str(json.get());
                    let options = DeserializeOptions::new();
                    let message = DynamicMessage::deserialize_with_options(descriptor, &mut text, &options);
                    let message = message.map_err(|error| format!("the JSON is not its type's: {error}"))?;
                    (Some(PROTOBUF), message.encode_to_vec().into())
                }
                None => (Some(JSON), json.get().to_owned().into()),
            },
        };
        let content_type = given.map(Arc::from).or_else(|| label.map(Arc::from));
        Ok(Piece { content_type, type_name: type_name.map(Arc::from), body })
    }

    /// The type that JSON is translated to, if it is: not if it is labelled as JSON.
    fn descriptor(
        &self,
        type_name: Option<&str>,
        content_type: Option<&str>,
    ) -> Result<Option<prost_reflect::MessageDescriptor>, String> {
        let media_type = content_type.map(|text| ContentType::parse(text).media_type());
        let translated = media_type.is_none_or(|media_type| media_type.contains("protobuf"));
        match type_name {
            Some(name) if translated && self.pool.all_messages().len() > 0 => {
                let found = self.pool.get_message_by_name(name);
                found.map(Some).ok_or_else(|| format!("the type `{name}` is in none of the given files"))
            }
            _ if media_type.is_some_and(|media_type| media_type.contains("protobuf")) => {
                Err("it is JSON and labelled as Protobuf: give its type, and --proto or --descriptors that describe it"
                    .to_owned())
            }
            _ => Ok(None),
        }
    }

    /// One message by itself.
    pub(crate) fn single(&self, draft: &Draft) -> Result<Prepared, String> {
        let piece = self.piece(draft)?;
        let mut properties = draft.properties.clone();
        let encoded = self.wire.encode(&piece).map_err(|error| error.to_string())?;
        let label = label(&piece);
        // What is compressed already stays as it is.
        let body = if properties.content_encoding.as_deref().is_some_and(|encoding| !encoding.is_empty()) {
            piece.body
        } else {
            properties.content_encoding = encoded.content_encoding.map(str::to_owned);
            encoded.body
        };
        properties.content_type = label;
        let amqp = self.complete(properties).to_amqp(draft.headers.clone())?;
        self.prepared(&draft.exchange, &draft.key, amqp, body, 1)
    }

    /// A batch of messages that all have this address; `like` is one of them.
    pub(crate) fn batch(&self, exchange: &str, key: &str, like: &Piece, encoded: Encoded) -> Result<Prepared, String> {
        let mut table = lapin::types::FieldTable::default();
        if let Some(types) = &encoded.item_types {
            table.insert(headers::ITEM_TYPES.into(), AMQPValue::LongString((&**types).into()));
        }
        let common = Some(&*encoded.type_name).filter(|name| !name.is_empty());
        let label = Some(batch_label(like.content_type.as_deref(), common, encoded.item_types.is_some()));
        let properties = Properties {
            content_type: label,
            content_encoding: encoded.content_encoding.map(str::to_owned),
            type_name: Some(encoded.type_name.to_string()).filter(|name| !name.is_empty()),
            ..Default::default()
        };
        let amqp = self.complete(properties).to_amqp(table)?;
        let items = u32::try_from(encoded.items).unwrap_or(u32::MAX);
        self.prepared(exchange, key, amqp, encoded.body, items)
    }

    /// With an id, a time and a delivery mode, if there was none.
    fn complete(&self, mut properties: Properties) -> Properties {
        let id = || Uuid::now_v7().as_hyphenated().to_string();
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        properties.message_id = Some(properties.message_id.filter(|id| !id.is_empty()).unwrap_or_else(id));
        properties.timestamp = Some(properties.timestamp.unwrap_or_else(now));
        properties.delivery_mode = Some(properties.delivery_mode.unwrap_or(2));
        properties
    }

    fn prepared(
        &self,
        exchange: &str,
        key: &str,
        amqp: BasicProperties,
        body: Bytes,
        items: u32,
    ) -> Result<Prepared, String> {
        for (name, text) in [("exchange", exchange), ("routing key", key)] {
            if text.len() > 255 {
                return Err(format!("the {name} is longer than 255 bytes"));
            }
        }
        let prepared = bare::prepare(exchange, key, self.mandatory, amqp, body, items);
        prepared.ok_or_else(|| "it has no message id".to_owned())
    }
}

/// The content type of a message by itself: Protobuf and JSON name their type, as Fluffle's publishers do.
fn label(piece: &Piece) -> Option<String> {
    let label = piece.content_type.as_deref()?;
    let parsed = ContentType::parse(label);
    let names_none = parsed.parameter("proto").is_none() && (parsed.is(PROTOBUF) || parsed.is(JSON));
    let name = piece.type_name.as_deref().filter(|_| names_none);
    Some(name.map_or_else(|| label.to_owned(), |name| format!("{label}; proto={name}")))
}

/// The content type of a batch of such messages, which have this type if they have one in common. If they have several,
/// a header tells them.
fn batch_label(content_type: Option<&str>, common: Option<&str>, has_several: bool) -> String {
    let own = content_type.unwrap_or("application/octet-stream");
    let mut label = ContentType::parse(own).without("proto");
    if let Some(name) = common {
        label.push_str(&format!("; proto={name}"));
    }
    label.push_str(if has_several { "; encoding=typed" } else { "; encoding=delimited" });
    label
}

/// Writes bodies as they are.
struct AsItIs;

impl Codec<Piece> for AsItIs {
    fn media_type(&self) -> &str {
        "application/octet-stream"
    }

    fn type_name(&self) -> String {
        String::new()
    }

    fn type_of(&self, piece: &Piece) -> Option<Arc<str>> {
        piece.type_name.clone()
    }

    fn encoded_len(&self, piece: &Piece) -> Option<usize> {
        Some(piece.body.len())
    }

    fn encode(&self, piece: &Piece, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        into.extend_from_slice(&piece.body);
        Ok(())
    }

    fn decode(&self, body: &Bytes) -> Result<Piece, DecodeError> {
        Ok(Piece { content_type: None, type_name: None, body: body.clone() })
    }
}

/// Bytes of a batch before it is sent, as the library's publishers send it.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;
/// The longest line of NDJSON: the largest body in base64, and room for the rest.
pub(crate) fn longest_line() -> usize {
    Limits::default().decompressed / 3 * 4 + (1 << 20)
}
