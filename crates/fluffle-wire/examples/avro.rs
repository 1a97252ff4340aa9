//! A codec of your own: Avro, by the crate apache-avro. `cargo run -p fluffle-wire --example avro`
//!
//! A body is one datum, without Avro's file header: both ends have the schema. With a schema registry, the codec would
//! read the schema's id from the first bytes of the body, and look the schema up in what was loaded at the start,
//! because a codec must not wait.
#![allow(clippy::print_stdout)]

use apache_avro::{Schema, reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use bytes::Bytes;
use fluffle_wire::{Codec, DecodeError, EncodeError, Incoming, Limits, Wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Messages of a type of serde that is described by a schema.
struct Avro {
    schema: Schema,
    type_name: String,
}

impl Avro {
    fn new(schema: &str) -> Result<Self, Box<dyn std::error::Error>> {
        // A length in a body is believed up to this many bytes, so it is as much as a body may have. For the whole
        // program.
        apache_avro::util::max_allocation_bytes(Limits::default().decompressed);
        let schema = Schema::parse_str(schema)?;
        let name = schema.name().ok_or("the schema has no name")?;
        Ok(Self { type_name: name.to_string(), schema })
    }
}

impl<M: Serialize + DeserializeOwned> Codec<M> for Avro {
    fn media_type(&self) -> &str {
        "avro/binary"
    }

    fn type_name(&self) -> String {
        self.type_name.clone()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let writer = GenericDatumWriter::builder(&self.schema).build();
        let written = writer.and_then(|writer| writer.write_ser(into, message));
        written.map(|_| ()).map_err(|error| EncodeError::unrepresentable(&self.type_name, error))
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        let mut rest = &body[..];
        let reader = GenericDatumReader::builder(&self.schema).build();
        let message = reader.and_then(|reader| reader.read_deser(&mut rest));
        let message = message.map_err(|error| DecodeError::malformed(&self.type_name, error))?;
        // A body is one message, and nothing behind it.
        let alone = rest.is_empty().then_some(message);
        alone.ok_or_else(|| DecodeError::malformed(&self.type_name, "bytes follow the message"))
    }
}

const SCHEMA: &str = r#"{
    "type": "record", "name": "Reading", "namespace": "example",
    "fields": [{"name": "station", "type": "string"}, {"name": "celsius", "type": "double"}]
}"#;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    station: String,
    celsius: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wire = Wire::<Reading>::new(Avro::new(SCHEMA)?);
    let sent = wire.encode(&Reading { station: "north".into(), celsius: -3.5 })?;
    println!("{} bytes of {}", sent.body.len(), sent.content_type);
    println!("{:?}", wire.decode(&Incoming { content_type: Some("avro/binary"), ..sent.incoming() })?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs() {
        main().unwrap();
    }

    #[test]
    fn what_is_no_reading_is_refused() {
        let wire = Wire::<Reading>::new(Avro::new(SCHEMA).unwrap());
        let sent = wire.encode(&Reading { station: "north".into(), celsius: -3.5 }).unwrap();
        assert_eq!(sent.body, [&b"\x0anorth"[..], &(-3.5_f64).to_le_bytes()].concat());
        let more = [&sent.body[..], b"\0"].concat();
        // The last one is a text of 128 GiB.
        for body in [more, vec![], b"\x0anort".to_vec(), b"\x80\x80\x80\x80\x80\x08".to_vec()] {
            assert!(wire.decode(&Incoming { body: &body.into(), ..sent.incoming() }).is_err());
        }
    }
}
