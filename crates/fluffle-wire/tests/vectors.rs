//! The golden vectors in `tests/vectors`, made by Google's Python implementation. Fluffle reads what another language
//! writes, and writes, byte for byte, what that implementation writes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeErrorKind, Incoming, Json, Wire};
use protos::usgs::Quake;
use serde_json::Value;

fn read(file: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file)).unwrap()
}

fn manifest() -> (Vec<Quake>, Vec<Value>) {
    let manifest: Value = serde_json::from_slice(&read("vectors.json")).unwrap();
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
    let wire = if file.ends_with(".json") { Wire::json() } else { Wire::protobuf() };
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
    assert!(vectors.len() > 20);
    for vector in &vectors {
        let outcome = decode(vector);
        if let Some(error) = vector["error"].as_str() {
            assert_eq!(outcome.map_err(DecodeErrorKind::as_str), Err(error), "{vector}");
            continue;
        }
        let indices = vector["messages"].as_array().unwrap().iter();
        let mut expected: Vec<_> = indices.map(|i| Ok(messages[i.as_u64().unwrap() as usize].clone())).collect();
        if vector["item_error"] == "framing" {
            expected.push(Err(DecodeErrorKind::Framing));
        }
        assert_eq!(outcome, Ok(expected), "{vector}");
    }
}

#[test]
fn what_is_written_here_is_what_google_writes() {
    let (messages, _) = manifest();
    let protobuf = Wire::protobuf();
    assert_eq!(protobuf.encode(&messages[0]).unwrap().body, read("quake.pb"));
    assert_eq!(protobuf.encode_batch(&messages).unwrap().body, read("quakes.delimited"));

    // Compared as JSON values, because JSON has no canonical spacing or order.
    let ours: Value = serde_json::from_slice(&Wire::json().encode(&messages[0]).unwrap().body).unwrap();
    let theirs: Value = serde_json::from_slice(&read("quake.json")).unwrap();
    assert_eq!(ours, theirs);
}
