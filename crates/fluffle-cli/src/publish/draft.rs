//! A message before it is encoded: from arguments, or from a line of NDJSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use lapin::types::FieldTable;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    message::{fields, properties::Properties},
    publish::args::PublishArgs,
};

/// A message before it is encoded.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Its line, or its number among repetitions, from 1.
    pub(crate) line: u64,
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) properties: Properties,
    pub(crate) headers: FieldTable,
    pub(crate) body: Body,
}

/// What is in the body.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// These bytes, as they are.
    Bytes(Vec<u8>),
    /// JSON; Protobuf, if the type is known.
    Json(Box<RawValue>),
}

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    exchange: Option<String>,
    key: Option<String>,
    #[serde(default)]
    properties: Properties,
    #[serde(default)]
    headers: Map<String, Value>,
    json: Option<Box<RawValue>>,
    body: Option<String>,
    body_base64: Option<String>,
    // What `fluffle tail` tells beside it.
    #[serde(rename = "redelivered", default)]
    _redelivered: IgnoredAny,
    #[serde(rename = "bytes", default)]
    _bytes: IgnoredAny,
    #[serde(rename = "batch", default)]
    _batch: IgnoredAny,
    #[serde(rename = "items", default)]
    _items: IgnoredAny,
}

impl Draft {
    /// The message that the arguments describe, with this body.
    pub(crate) fn of_arguments(args: &PublishArgs, body: Vec<u8>, line: u64) -> Result<Self, String> {
        let body = if args.json_body || is_typed(args) {
            let text = String::from_utf8(body).map_err(|_| "the body is not UTF-8, so it is not JSON".to_owned())?;
            Body::Json(RawValue::from_string(text).map_err(|error| format!("the body is not JSON: {error}"))?)
        } else {
            Body::Bytes(body)
        };
        let mut draft = Self {
            line,
            exchange: String::new(),
            key: String::new(),
            properties: Properties::default(),
            headers: FieldTable::default(),
            body,
        };
        draft.properties.message_id.clone_from(&args.id);
        draft.apply(args)?;
        Ok(draft)
    }

    /// The message of a line, with what the arguments say in addition.
    pub(crate) fn of_line(args: &PublishArgs, text: &str, line: u64) -> Result<Self, String> {
        let read: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let body = match (read.json, read.body, read.body_base64) {
            (Some(json), None, None) => Body::Json(json),
            (None, Some(text), None) => Body::Bytes(text.into_bytes()),
            (None, None, Some(base64)) => {
                Body::Bytes(STANDARD.decode(base64).map_err(|error| format!("body_base64: {error}"))?)
            }
            (None, None, None) => {
                return Err("it has no body: one of json, body, body_base64 (`fluffle tail --json --raw`)".to_owned());
            }
            _ => return Err("it has more than one of json, body, body_base64".to_owned()),
        };
        let mut draft = Self {
            line,
            exchange: read.exchange.unwrap_or_default(),
            key: read.key.unwrap_or_default(),
            properties: read.properties,
            headers: fields::table_from_json(&read.headers).map_err(|why| format!("headers: {why}"))?,
            body,
        };
        draft.apply(args)?;
        Ok(draft)
    }

    /// Writes what the arguments say over what was there.
    fn apply(&mut self, args: &PublishArgs) -> Result<(), String> {
        if let Some(queue) = &args.queue {
            self.exchange.clear();
            self.key.clone_from(queue);
        }
        let over = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        over(&mut self.exchange, &args.exchange);
        over(&mut self.key, &args.key);
        let over = |to: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        let properties = &mut self.properties;
        over(&mut properties.type_name, &args.type_name);
        over(&mut properties.content_type, &args.content_type);
        over(&mut properties.correlation_id, &args.correlation_id);
        over(&mut properties.reply_to, &args.reply_to);
        over(&mut properties.expiration, &args.expiration.map(|time| time.as_millis().to_string()));
        properties.priority = args.priority.or(properties.priority);
        if args.transient {
            properties.delivery_mode = Some(1);
        }
        for (name, value) in &args.header {
            let short = lapin::types::ShortString::try_new(name.as_str());
            let short = short.map_err(|_| format!("--header {name}: the name is longer than 255 bytes"))?;
            self.headers.insert(short, fields::from_json(value).map_err(|why| format!("--header {name}: {why}"))?);
        }
        if self.exchange.is_empty() && self.key.is_empty() {
            return Err("it has no address: give --queue, or --exchange, or exchange and key in the line".to_owned());
        }
        Ok(())
    }

    /// Whether the message may join a batch: it has nothing but an address, a type and a content type.
    pub(crate) fn may_join(&self) -> bool {
        let known = Properties {
            content_type: self.properties.content_type.clone(),
            type_name: self.properties.type_name.clone(),
            ..Properties::default()
        };
        self.headers.inner().is_empty() && self.properties == known
    }
}

/// Whether a body from the arguments is the ProtoJSON of a type.
fn is_typed(args: &PublishArgs) -> bool {
    args.type_name.is_some() && !(args.types.proto.is_empty() && args.types.descriptors.is_empty())
}
