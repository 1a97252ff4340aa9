//! The vectors in `docs/vectors`, whose good Protobuf was made by Google's Python implementation. Fluffle reads what
//! another language writes, and writes, byte for byte, what that implementation writes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fluffle_wire::headers::HeaderValue;
use fluffle_wire::{Codec, DecodeErrorKind, Headers, Incoming, Json, Protobuf, Wire};
use protos::usgs::Quake;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors")
}

fn read(file: &str) -> Vec<u8> {
    fs::read(folder().join(file)).unwrap()
}

fn manifest() -> (Vec<Quake>, Vec<Value>) {
    let manifest: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let message = |json: &Value| Json.decode(&Bytes::from(json.to_string())).unwrap();
    (
        manifest["messages"].as_array().unwrap().iter().map(message).collect(),
        manifest["vectors"].as_array().unwrap().clone(),
    )
}

/// The headers of a vector.
struct Table<'a>(&'a Value);

impl Headers for Table<'_> {
    fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        self.0[name].as_str().map(HeaderValue::Str)
    }
}

/// Decodes as a consumer does: single or batch as the label says.
fn decode(wire: &Wire<Quake>, vector: &Value) -> Result<Vec<Result<Quake, DecodeErrorKind>>, DecodeErrorKind> {
    let times = vector["repeat"].as_u64().unwrap_or(1);
    let body = Bytes::from(read(vector["file"].as_str().unwrap()).repeat(times.try_into().unwrap()));
    let headers = Table(&vector["headers"]);
    let incoming = Incoming {
        content_type: vector["content_type"].as_str(),
        content_encoding: vector["content_encoding"].as_str(),
        type_name: vector["type"].as_str(),
        headers: Some(&headers),
        body: &body,
    };
    if incoming.is_batch() {
        let batch = wire.decode_batch(&incoming).map_err(|e| e.kind())?;
        Ok(batch.iter().map(|item| item.map_err(|e| e.kind())).collect())
    } else {
        wire.decode(&incoming).map(|quake| vec![Ok(quake)]).map_err(|e| e.kind())
    }
}

#[test]
fn every_vector_gives_its_messages_or_its_error() {
    let (messages, vectors) = manifest();
    let wire = Wire::new(Protobuf).reads(Json);
    assert!(vectors.len() > 75);
    for vector in &vectors {
        let outcome = decode(&wire, vector);
        if let Some(error) = vector["error"].as_str() {
            assert_eq!(outcome.map_err(DecodeErrorKind::as_str), Err(error), "{vector}");
            continue;
        }
        // The index -1 stands for an item that cannot be read.
        let indices = vector["messages"].as_array().unwrap().iter().map(|index| index.as_i64().unwrap());
        let expected = indices.map(|index| match usize::try_from(index) {
            Ok(index) => Ok(messages[index].clone()),
            Err(_) => Err(vector["item_error"].as_str().unwrap()),
        });
        let outcome: Vec<_> = outcome.unwrap().into_iter().map(|item| item.map_err(DecodeErrorKind::as_str)).collect();
        assert_eq!(outcome, expected.collect::<Vec<_>>(), "{vector}");
    }
}

/// A reader need not know JSON: the index says what becomes of such a body then.
#[test]
fn a_reader_without_json_refuses_what_is_labelled_as_json() {
    let (_, vectors) = manifest();
    let json: Vec<_> = vectors.iter().filter(|vector| vector["format"] == "json").collect();
    assert!(json.len() > 5);
    for vector in json {
        let error = decode(&Wire::protobuf().strict(), vector).unwrap_err();
        assert_eq!(error, DecodeErrorKind::ContentType, "{vector}");
    }
}

/// The index says which ids the messages have: those of docs/WIRE.md. Without `message_id`, there are none.
#[test]
fn every_vector_has_the_ids_of_its_messages() {
    let (_, vectors) = manifest();
    assert!(vectors.iter().filter(|vector| vector["ids"].is_array()).count() > 8);
    for vector in vectors {
        let expected = vector["message_id"].as_str().zip(vector["messages"].as_array()).map(|(id, messages)| {
            let is_batch = vector["content_type"].as_str().unwrap().contains("encoding=");
            let items = 0..messages.len();
            if is_batch { items.map(|item| format!("{id}/{item}")).collect() } else { vec![id.to_owned()] }
        });
        assert_eq!(vector["ids"], serde_json::json!(expected), "{vector}");
    }
}

/// What is marked as written is what a writer makes: these bytes and these labels.
#[test]
fn what_is_written_here_is_what_google_writes() {
    let (messages, vectors) = manifest();
    let written: Vec<_> = vectors.iter().filter(|vector| vector["written"] == true).collect();
    assert_eq!(written.len(), 5);
    for vector in written {
        let label = |name: &str| vector[name].as_str().unwrap();
        let is_json = vector["format"] == "json";
        let wire = if is_json { Wire::json() } else { Wire::protobuf() };
        let indices = vector["messages"].as_array().unwrap().iter().map(|index| index.as_u64().unwrap());
        let mut parts = indices.map(|index| &messages[usize::try_from(index).unwrap()]);
        let encoded = match label("content_type").contains("encoding=") {
            true => wire.encode_batch(parts).unwrap(),
            false => wire.encode(parts.next().unwrap()).unwrap(),
        };
        let body = read(label("file"));
        if is_json {
            // JSON has no canonical spacing or order.
            let values = [&encoded.body[..], &body].map(|text| serde_json::from_slice::<Value>(text).unwrap());
            assert_eq!(values[0], values[1]);
        } else {
            assert_eq!(encoded.body, body, "{vector}");
        }
        assert_eq!((&*encoded.content_type, &*encoded.type_name), (label("content_type"), label("type")));
    }
}

/// Whoever copies the folder needs no other file.
#[test]
fn the_folder_is_complete() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/usgs/v1/quake.proto");
    assert_eq!(fs::read_to_string(proto).unwrap(), String::from_utf8(read("quake.proto")).unwrap());
    let (_, vectors) = manifest();
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.retain(|name| !vectors.iter().any(|vector| vector["file"] == *name.to_str().unwrap()));
    files.sort();
    assert_eq!(files, ["index.json", "quake.proto"], "these have no vector");
}
