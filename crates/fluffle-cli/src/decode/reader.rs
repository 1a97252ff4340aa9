//! Reads the body of a message of any format.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use fluffle::{
    amqp::{Payload, Raw},
    wire::{ContentType, DecodeError, Incoming, Wire, wrappers::CloudEvents},
};
use lapin::{BasicProperties, types::FieldTable};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    common::failure::Failure,
    decode::{
        descriptors::{self, DescriptorArgs},
        fields,
    },
    message::{fields::TableHeaders, properties::Properties},
};

/// What a body was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Protobuf whose type is known, as ProtoJSON.
    Protobuf,
    /// Protobuf whose type is not known: field number → value.
    ProtobufFields,
    /// JSON, as it came.
    Json,
    /// Text in UTF-8.
    Text,
    /// Anything else, as base64.
    Bytes,
}

/// One message: of a batch, or the only one.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    /// `<id of the batch>/<index>`, or the message's own id.
    pub(crate) id: Option<String>,
    #[serde(rename = "type")]
    pub(crate) type_name: Option<String>,
    pub(crate) format: Format,
    pub(crate) value: Box<RawValue>,
    /// Why the message could not be read as its labels say.
    pub(crate) error: Option<String>,
}

/// What a body holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Whether the body is a batch.
    pub(crate) batch: bool,
    pub(crate) items: Vec<Item>,
}

/// Reads bodies. It never fails: what cannot be read is shown as it came, with the reason.
pub(crate) struct Reader {
    wire: Wire<Raw>,
    pool: DescriptorPool,
    /// The type of a message without labels.
    default_type: Option<String>,
}

impl Reader {
    /// With these types. `default_type` is that of messages whose labels name none.
    pub(crate) fn new(types: &DescriptorArgs, default_type: Option<&str>) -> Result<Self, Failure> {
        let pool = types.pool()?;
        if let Some(name) = default_type {
            descriptors::named(&pool, name)?;
        }
        Ok(Self { wire: Raw::wire().accepts(CloudEvents), pool, default_type: default_type.map(str::to_owned) })
    }

    /// Reads the body of a message with these properties.
    pub(crate) fn read(&self, amqp: &BasicProperties, body: &Bytes) -> Contents {
        let properties = Properties::of(amqp);
        let none = FieldTable::default();
        let headers = TableHeaders(amqp.headers().as_ref().unwrap_or(&none));
        let incoming = Incoming {
            content_type: properties.content_type.as_deref(),
            content_encoding: properties.content_encoding.as_deref(),
            type_name: properties.type_name.as_deref(),
            headers: Some(&headers),
            body,
        };
        let id = properties.message_id.as_deref();
        let unread = |error: DecodeError| {
            let (format, value) = unlabelled(body);
            let type_name = incoming.declared_type().map(str::to_owned);
            Item { id: id.map(str::to_owned), type_name, format, value, error: Some(error.to_string()) }
        };
        if !incoming.is_batch() {
            let item = self.wire.decode(&incoming).map_or_else(unread, |raw| self.item(id.map(str::to_owned), raw));
            return Contents { batch: false, items: vec![item] };
        }
        match self.wire.decode_batch(&incoming) {
            Ok(batch) => {
                let item = |(index, raw): (usize, Result<Raw, DecodeError>)| {
                    let id = id.map(|id| format!("{id}/{index}"));
                    match raw {
                        Ok(raw) => self.item(id, raw),
                        Err(error) => Item { id, ..unread(error) },
                    }
                };
                Contents { batch: true, items: batch.iter().enumerate().map(item).collect() }
            }
            Err(error) => Contents { batch: true, items: vec![unread(error)] },
        }
    }

    fn item(&self, id: Option<String>, raw: Raw) -> Item {
        let type_name = raw.type_name.clone().or_else(|| self.default_type.clone());
        let (format, value, error) = self.value(raw.content_type.as_deref(), type_name.as_deref(), &raw.body);
        Item { id, type_name, format, value, error }
    }

    fn value(
        &self,
        content_type: Option<&str>,
        type_name: Option<&str>,
        body: &Bytes,
    ) -> (Format, Box<RawValue>, Option<String>) {
        let media_type = content_type.map(|text| ContentType::parse(text).media_type().to_ascii_lowercase());
        let media_type = media_type.as_deref().unwrap_or_default();
        let labelled_json = media_type.ends_with("/json") || media_type.ends_with("+json");
        if labelled_json {
            return match as_json(body) {
                Some(value) => (Format::Json, value, None),
                None => with_error(unlabelled(body), "its content type is JSON, and the body is not"),
            };
        }
        let labelled_protobuf = media_type.contains("protobuf");
        let any = matches!(media_type, "" | "application/octet-stream") || labelled_protobuf;
        if let Some(descriptor) = type_name.filter(|_| any).and_then(|name| self.pool.get_message_by_name(name)) {
            return match DynamicMessage::decode(descriptor, &body[..]) {
                Ok(message) => match proto_json(&message) {
                    Ok(value) => (Format::Protobuf, value, None),
                    Err(why) => with_error(by_number(body), &why),
                },
                Err(error) => with_error(by_number(body), &error.to_string()),
            };
        }
        if labelled_protobuf {
            let (format, value) = by_number(body);
            return (format, value, None);
        }
        let (format, value) = unlabelled(body);
        (format, value, None)
    }
}

fn with_error((format, value): (Format, Box<RawValue>), why: &str) -> (Format, Box<RawValue>, Option<String>) {
    (format, value, Some(why.to_owned()))
}

fn proto_json(message: &DynamicMessage) -> Result<Box<RawValue>, String> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    // Integers of 64 bits are text, as ProtoJSON has them, because not every reader of JSON keeps all their digits.
    let written = message.serialize_with_options(&mut serializer, &SerializeOptions::new());
    written.map_err(|error| error.to_string())?;
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    RawValue::from_string(text).map_err(|error| error.to_string())
}

fn as_json(body: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(body).ok()
}

fn by_number(body: &[u8]) -> (Format, Box<RawValue>) {
    match fields::read(body).and_then(|fields| raw(&Value::Object(fields))) {
        Some(value) => (Format::ProtobufFields, value),
        None => unlabelled(body),
    }
}

/// What a body without labels looks like: a JSON object or array, else text, else bytes.
fn unlabelled(body: &[u8]) -> (Format, Box<RawValue>) {
    let braced = body.trim_ascii_start().first().is_some_and(|first| matches!(first, b'{' | b'['));
    if let Some(value) = Some(body).filter(|_| braced).and_then(as_json) {
        return (Format::Json, value);
    }
    match std::str::from_utf8(body).ok().and_then(|text| raw(&Value::from(text))) {
        Some(value) => (Format::Text, value),
        None => (Format::Bytes, raw(&Value::from(STANDARD.encode(body))).unwrap_or_default()),
    }
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use fluffle::wire::headers;
    use lapin::types::AMQPValue;

    use super::*;

    fn quakes() -> Reader {
        let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
        let types = DescriptorArgs {
            proto: vec![format!("{proto}/usgs/v1/quake.proto").into()],
            include: vec![proto.into()],
            descriptors: Vec::new(),
        };
        Reader::new(&types, None).unwrap()
    }

    fn bare() -> Reader {
        Reader::new(&DescriptorArgs::default(), None).unwrap()
    }

    fn properties(content_type: &str, type_name: &str) -> BasicProperties {
        BasicProperties::default()
            .with_content_type(content_type.into())
            .with_type(type_name.into())
            .with_message_id("id".into())
    }

    /// Field 1 is the text `ci1`.
    const QUAKE: &[u8] = b"\x0a\x03ci1";
    const PROTOBUF: &str = "application/vnd.google.protobuf; proto=usgs.v1.Quake";

    #[test]
    fn protobuf_is_read_by_its_type_or_else_by_the_numbers_of_its_fields() {
        let body = Bytes::from_static(QUAKE);
        let [known, unknown] = [quakes(), bare()]
            .map(|reader| reader.read(&properties(PROTOBUF, "usgs.v1.Quake"), &body).items.pop().unwrap());
        assert_eq!((known.format, known.value.get()), (Format::Protobuf, r#"{"id":"ci1"}"#));
        assert_eq!((unknown.format, unknown.value.get()), (Format::ProtobufFields, r#"{"1":"ci1"}"#));
        assert_eq!(known.id.as_deref(), Some("id"));
    }

    #[test]
    fn each_item_of_a_batch_has_its_own_id_and_type() {
        let mut body = Vec::new();
        for _ in 0..2 {
            body.push(u8::try_from(QUAKE.len()).unwrap());
            body.extend(QUAKE);
        }
        let mut table = FieldTable::default();
        let types = "1*usgs.v1.Quake 1*usgs.v1.Alert";
        table.insert(headers::ITEM_TYPES.into(), AMQPValue::LongString(types.into()));
        let properties = BasicProperties::default()
            .with_content_type("application/vnd.google.protobuf; encoding=typed".into())
            .with_message_id("id".into())
            .with_headers(table);
        let contents = quakes().read(&properties, &body.into());
        assert!(contents.batch);
        let [quake, alert] = &contents.items[..] else { panic!("{contents:?}") };
        assert_eq!(quake.id.as_deref(), Some("id/0"));
        assert_eq!(quake.value.get(), r#"{"id":"ci1"}"#);
        assert_eq!((alert.id.as_deref(), alert.type_name.as_deref()), (Some("id/1"), Some("usgs.v1.Alert")));
        assert_eq!(alert.value.get(), r#"{"quakeId":"ci1"}"#);
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_it_came_with_the_reason() {
        let damaged = quakes().read(&properties(PROTOBUF, "usgs.v1.Quake"), &Bytes::from_static(b"\x0a\xffxx"));
        assert!(damaged.items[0].error.is_some() && damaged.items[0].format == Format::Bytes, "{damaged:?}");
        let packed = BasicProperties::default().with_content_encoding("gzip".into());
        let packed = bare().read(&packed, &Bytes::from_static(b"plain"));
        assert!(packed.items[0].error.as_ref().unwrap().contains("gzip"), "{packed:?}");
        assert_eq!(packed.items[0].value.get(), r#""plain""#);
    }

    #[test]
    fn json_keeps_its_text_and_other_bodies_are_text_or_base64() {
        let read = |content_type: &str, body: &'static [u8]| {
            let properties = BasicProperties::default().with_content_type(content_type.into());
            let item = bare().read(&properties, &Bytes::from_static(body)).items.pop().unwrap();
            (item.format, item.value.get().to_owned(), item.error.is_some())
        };
        let big = br#"{"b":12345678901234567890123,"a":1.10}"#;
        assert_eq!(read("application/json", big), (Format::Json, String::from_utf8(big.to_vec()).unwrap(), false));
        assert_eq!(read("application/json", b"no"), (Format::Text, r#""no""#.into(), true));
        assert_eq!(read("text/plain", b"hello"), (Format::Text, r#""hello""#.into(), false));
        assert_eq!(read("image/png", b"\xff\x00"), (Format::Bytes, r#""/wA=""#.into(), false));
        assert_eq!(read("", b""), (Format::Text, r#""""#.into(), false));
    }
}
