//! A codec of your own: MessagePack, by the crate rmp-serde. `cargo run -p fluffle-wire --example message_pack`
//!
//! A consumer of a type that is written in another format reads it beside that: `Consume::reads(MessagePack("…"))`.
//! A type that is always MessagePack says so once: `impl Payload for Reading { fn wire() -> Wire<Self> { … } }`.
#![allow(clippy::print_stdout)]

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeError, EncodeError, Incoming, Wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Messages of any type of serde. Holds the name of the type on the wire.
struct MessagePack(&'static str);

impl<M: Serialize + DeserializeOwned> Codec<M> for MessagePack {
    fn media_type(&self) -> &str {
        "application/msgpack"
    }

    /// Older senders write `x-`.
    fn accepts(&self, media_type: &str) -> bool {
        ["application/msgpack", "application/x-msgpack"].iter().any(|known| known.eq_ignore_ascii_case(media_type))
    }

    fn type_name(&self) -> String {
        self.0.to_owned()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        // Maps with names, as other languages expect; by default it writes arrays.
        rmp_serde::encode::write_named(into, message).map_err(|error| EncodeError::unrepresentable(self.0, error))
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        let mut rest = &body[..];
        let mut parser = rmp_serde::Deserializer::new(&mut rest);
        parser.set_max_depth(100);
        let message = M::deserialize(&mut parser).map_err(|error| DecodeError::malformed(self.0, error))?;
        // A body is one message, and nothing behind it.
        rest.is_empty().then_some(message).ok_or_else(|| DecodeError::malformed(self.0, "bytes follow the message"))
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    station: String,
    celsius: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wire = Wire::<Reading>::new(MessagePack("example.Reading"));
    let sent = wire.encode(&Reading { station: "north".into(), celsius: -3.5 })?;
    println!("{} bytes of {}", sent.body.len(), sent.content_type);
    println!("{:?}", wire.decode(&sent.incoming())?);

    // The same type as JSON, and MessagePack where the label says so; an answer is in the format of its request.
    let both = Wire::<Reading>::serde_json("example.Reading").reads(MessagePack("example.Reading"));
    let received = Incoming { content_type: Some("application/x-msgpack"), ..Incoming::unlabelled(&sent.body) };
    let reading = both.decode(&received)?;
    assert_eq!(both.encode_like(received.content_type, &reading)?.body, sent.body);
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
        let wire = Wire::<Reading>::new(MessagePack("example.Reading"));
        let sent = wire.encode(&Reading { station: "north".into(), celsius: -3.5 }).unwrap();
        let more = [&sent.body[..], b"\xc0"].concat();
        // The last two are a text of 4 GiB, and arrays that nest too deep.
        for body in [more, vec![], vec![0xc1], b"\xdb\xff\xff\xff\xff".to_vec(), vec![0x91; 10_000]] {
            assert!(wire.decode(&Incoming { body: &body.into(), ..sent.incoming() }).is_err());
        }
        let wrong_label = Incoming { content_type: Some("application/json"), ..sent.incoming() };
        assert!(wire.decode(&wrong_label).is_err());
    }
}
