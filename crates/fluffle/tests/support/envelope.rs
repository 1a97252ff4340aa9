//! Messages and batches as publishers write them, put into a queue by a client of the test's own.

use fluffle::wire::{Encoded, Wire};
use lapin::BasicProperties;

use super::Raw;

/// A text by itself: its body, and the least labels that say so.
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

/// The labels that an envelope travels with, under the id `id`.
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
