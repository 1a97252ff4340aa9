//! The messages of `made.json` and `written.json`.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use base64::Engine;
use bytes::Bytes;
use fluffle_wire::{Headers, Incoming, headers::HeaderValue};
use serde::Deserialize;

/// A message as it is on a queue.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) type_name: Option<String>,
    pub(crate) headers: BTreeMap<String, serde_json::Value>,
    body: Option<String>,
    body_base64: Option<String>,
    #[serde(skip)]
    pub(crate) bytes: Bytes,
}

impl Message {
    pub(crate) fn incoming(&self) -> Incoming<'_> {
        Incoming {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            type_name: self.type_name.as_deref(),
            headers: Some(self),
            body: &self.bytes,
        }
    }

    /// The same message with another body.
    pub(crate) fn with_body(&self, body: impl Into<Bytes>) -> Self {
        Self { bytes: body.into(), ..self.clone() }
    }

    /// The same message with a part of its body replaced.
    pub(crate) fn with(&self, part: &str, other: &str) -> Self {
        let body = std::str::from_utf8(&self.bytes).unwrap();
        assert!(body.contains(part), "{} has no {part} in {body}", self.name);
        self.with_body(body.replacen(part, other, 1))
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        assert!(self.headers.remove(name).is_some());
        self
    }

    /// Without the header at this place among those there are, if there is one.
    pub(crate) fn without_header_at(mut self, place: usize) -> Self {
        if let Some(name) = self.headers.keys().nth(place).cloned() {
            self.headers.remove(&name);
        }
        self
    }

    pub(crate) fn labelled(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self
    }
}

impl Headers for Message {
    fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        match self.headers.get(name)? {
            serde_json::Value::String(text) => Some(HeaderValue::Str(text)),
            other => other.as_i64().map(HeaderValue::Int),
        }
    }
}

pub(crate) fn all() -> Vec<Message> {
    let files = [include_str!("made.json"), include_str!("written.json")];
    let mut all: Vec<Message> =
        files.iter().flat_map(|file| serde_json::from_str::<Vec<Message>>(file).unwrap()).collect();
    for message in &mut all {
        message.bytes = match (&message.body, &message.body_base64) {
            (Some(text), None) => text.clone().into_bytes().into(),
            (None, Some(encoded)) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap().into(),
            _ => panic!("{} has not one body", message.name),
        };
    }
    all
}

pub(crate) fn message(name: &str) -> Message {
    all().into_iter().find(|message| message.name == name).unwrap_or_else(|| panic!("no message {name}"))
}
