//! Runs the vectors of docs/vectors with the reader and the writer: `vectors <docs/vectors>`.

use std::{fs, path::Path};

use interop_peers::{
    peer::Failure,
    reader::{Labels, read},
    writer::write,
};
use protos::usgs::Quake;
use serde_json::Value;

const NAME: &str = "usgs.v1.Quake";

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("the folder of the vectors is missing")?;
    let folder = Path::new(&folder);
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let vectors = index["vectors"].as_array().ok_or("no vectors")?;
    for vector in vectors {
        check(vector, folder, &index["messages"]).map_err(|error| format!("{vector}: {error}"))?;
    }
    println!("ok {} vectors", vectors.len());
    Ok(())
}

fn kind(error: &str) -> &str {
    error.split(':').next().unwrap_or_default()
}

/// prost reads no ProtoJSON, so these fields stand for the message.
fn is_same(quake: &Quake, json: &Value) -> bool {
    quake.id == json["id"].as_str().unwrap_or_default()
        && quake.place == json["place"].as_str().unwrap_or_default()
        && quake.magnitude == json["magnitude"].as_f64()
        && quake.event_time.is_some() == json["eventTime"].is_string()
        && quake.location.map(|it| it.depth_km) == json["location"]["depthKm"].as_f64()
}

fn check(vector: &Value, folder: &Path, expected: &Value) -> Result<(), Failure> {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let repeat = usize::try_from(vector["repeat"].as_u64().unwrap_or(1))?;
    let body = fs::read(folder.join(text("file")))?.repeat(repeat);
    // What a reader of Protobuf and of batches of one type says to the rest.
    let refused = match text("format") {
        "json" => "content_type",
        "typed" => "batching",
        _ => text("error"),
    };
    let labels = Labels {
        content_type: text("content_type"),
        content_encoding: text("content_encoding"),
        type_name: text("type"),
        id: text("message_id"),
    };
    let items = match read::<Quake>(NAME, &body, &labels) {
        Ok(items) if refused.is_empty() => items,
        Err(error) if kind(&error) == refused => return Ok(()),
        other => return Err(format!("read as {other:?}").into()),
    };
    let wanted = vector["messages"].as_array().ok_or("no messages")?;
    if wanted.len() != items.len() {
        return Err(format!("read as {items:?}").into());
    }
    let mut messages = Vec::new();
    for (at, ((id, item), wanted)) in items.into_iter().zip(wanted).enumerate() {
        if vector["ids"][at].as_str().unwrap_or_default() != id {
            return Err(format!("the id of item {at} is {id}").into());
        }
        match (item, wanted.as_u64()) {
            (Ok(quake), Some(index)) if is_same(&quake, &expected[index as usize]) => messages.push(quake),
            (Err(error), None) if kind(&error) == text("item_error") => {}
            (item, _) => return Err(format!("item {at} is {item:?}").into()),
        }
    }
    if vector["written"] == true {
        let written = write(NAME, &messages, text("file").contains("delimited"), false)?;
        if written.body != body || written.content_type != labels.content_type || written.type_name != labels.type_name
        {
            return Err(format!("written as {written:?}").into());
        }
    }
    Ok(())
}
