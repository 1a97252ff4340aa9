//! The vectors in `docs/vectors`, made by Google's Python implementation. Fluffle reads what another language writes,
//! and writes, byte for byte, what that implementation writes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeErrorKind, Incoming, Json, Wire};
use protos::usgs::Quake;
use serde_json::Value;

fn read(file: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors").join(file)).unwrap()
}

fn manifest() -> (Vec<Quake>, Vec<Value>) {
    let manifest: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let message = |json: &Value| Json.decode(&Bytes::from(json.to_string())).unwrap();
    (
        manifest["messages"].as_array().unwrap().iter().map(message).collect(),
        manifest["vectors"].as_array().unwrap().clone(),
    )
}

/// Decodes as a consumer does: single or batch as the label says, with the codec of the file's format.
fn decode(vector: &Value) -> Result<Vec<Result<Quake, DecodeErrorKind>>, DecodeErrorKind> {
    let file = vector["file"].as_str().unwrap();
    let body = Bytes::from(read(file));
    let incoming = Incoming {
        content_type: vector["content_type"].as_str(),
        content_encoding: vector["content_encoding"].as_str(),
        type_name: vector["type"].as_str(),
        headers: None,
        body: &body,
    };
    let wire = if vector["format"] == "json" { Wire::json() } else { Wire::protobuf() };
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
    assert!(vectors.len() > 34);
    for vector in &vectors {
        let outcome = decode(vector);
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

/// The index says which ids the messages have: those of docs/WIRE.md.
#[test]
fn every_vector_has_the_ids_of_its_messages() {
    let (_, vectors) = manifest();
    let with_ids: Vec<_> = vectors.iter().filter(|vector| vector["message_id"].is_string()).collect();
    assert!(with_ids.len() > 4);
    for vector in with_ids {
        let id = vector["message_id"].as_str().unwrap();
        let items = 0..vector["messages"].as_array().unwrap().len();
        let is_batch = vector["content_type"].as_str().unwrap().contains("encoding=delimited");
        let expected = if is_batch { items.map(|item| format!("{id}/{item}")).collect() } else { vec![id.to_owned()] };
        assert_eq!(vector["ids"], serde_json::json!(expected), "{vector}");
    }
}

/// Two of the vectors are marked as written: a writer makes these bytes and these labels.
#[test]
fn what_is_written_here_is_what_google_writes() {
    let (messages, vectors) = manifest();
    let protobuf = Wire::protobuf();
    let written: Vec<_> = vectors.iter().filter(|vector| vector["written"] == true).collect();
    assert_eq!(written.len(), 2);
    for vector in written {
        let label = |name: &str| vector[name].as_str().unwrap();
        let encoded = match vector["file"].as_str() {
            Some("quake.pb") => protobuf.encode(&messages[0]).unwrap(),
            _ => protobuf.encode_batch(&messages[..3]).unwrap(),
        };
        assert_eq!(encoded.body, read(vector["file"].as_str().unwrap()));
        assert_eq!((&*encoded.content_type, &*encoded.type_name), (label("content_type"), label("type")));
    }

    // Compared as JSON values, because JSON has no canonical spacing or order.
    let ours: Value = serde_json::from_slice(&Wire::json().encode(&messages[0]).unwrap().body).unwrap();
    let theirs: Value = serde_json::from_slice(&read("quake.json")).unwrap();
    assert_eq!(ours, theirs);
}
