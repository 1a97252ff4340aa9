//! A message as it is shown.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use lapin::BasicProperties;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    decode::{Contents, Item, Reader, cloud_event},
    message::{fields, properties::Properties},
};

/// A message that passed, and what is in it.
pub(crate) struct Message<'a> {
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) redelivered: bool,
    pub(crate) properties: Properties,
    pub(crate) headers: Map<String, Value>,
    /// The attributes, if the message is a CloudEvent.
    pub(crate) cloud_event: Option<Map<String, Value>>,
    pub(crate) body: &'a Bytes,
    pub(crate) contents: Contents,
}

/// The message in `--json`. The keys are stable.
#[derive(Serialize)]
struct Line<'a> {
    exchange: &'a str,
    key: &'a str,
    redelivered: bool,
    properties: &'a Properties,
    headers: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_event: Option<&'a Map<String, Value>>,
    bytes: usize,
    batch: bool,
    items: &'a [Item],
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(
        reader: &Reader,
        exchange: &str,
        key: &str,
        redelivered: bool,
        amqp: &BasicProperties,
        body: &'a Bytes,
    ) -> Self {
        let headers = amqp.headers().as_ref().map(fields::table_to_json).unwrap_or_default();
        let properties = Properties::of(amqp);
        Self {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            redelivered,
            cloud_event: cloud_event::attributes(&properties, &headers, body),
            properties,
            headers,
            body,
            contents: reader.read(amqp, body),
        }
    }

    /// The message as one value for `--json`; with its body, if `raw`.
    pub(crate) fn json(&self, raw: bool) -> impl Serialize {
        Line {
            exchange: &self.exchange,
            key: &self.key,
            redelivered: self.redelivered,
            properties: &self.properties,
            headers: &self.headers,
            cloud_event: self.cloud_event.as_ref(),
            bytes: self.body.len(),
            batch: self.contents.batch,
            items: &self.contents.items,
            body_base64: raw.then(|| STANDARD.encode(self.body)),
        }
    }
}
