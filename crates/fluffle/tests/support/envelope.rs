//! Messages and batches in the form that publishers write, for a test that puts them into a queue with its own client.

use fluffle::wire::{Encoded, Wire};
use lapin::BasicProperties;

use super::Raw;

/// A single text: its body, and the fewest labels with which it is decoded.
pub fn encoded(text: &str) -> (Vec<u8>, BasicProperties) {
    let body = Wire::<String>::protobuf().encode(&text.to_owned()).unwrap().body.to_vec();
    let labels = BasicProperties::default()
        .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.StringValue".into());
    (body, labels)
}

/// An envelope with these items.
pub fn batch(texts: &[&str]) -> Encoded {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Wire::<String>::protobuf().encode_batch(&texts).unwrap()
}

/// The labels of an envelope with this id.
pub fn labels(encoded: &Encoded, id: &str) -> BasicProperties {
    let labels = BasicProperties::default()
        .with_content_type((&*encoded.content_type).into())
        .with_type((&*encoded.type_name).into())
        .with_message_id(id.into());
    match encoded.content_encoding {
        Some(encoding) => labels.with_content_encoding(encoding.into()),
        None => labels,
    }
}

/// Puts an envelope `id` with these items into `q`.
pub async fn send_batch(raw: &Raw, id: &str, texts: &[&str]) {
    let encoded = batch(texts);
    raw.put("q", &encoded.body, labels(&encoded, id)).await;
}
