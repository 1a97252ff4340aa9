//! The bytes that travel: a small Protobuf message, the same for everyone, with its number in it.

use bytes::Bytes;
use prost::{Message, Name};

/// Field 1, the number: eight bytes behind a byte of tag.
const NUMBER: std::ops::Range<usize> = 1..9;

/// What the bodies are for those who read Protobuf. The others read the number where it lies.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Parcel {
    /// From 1 on: proto3 leaves a zero out.
    #[prost(fixed64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) filler: Bytes,
}

impl Name for Parcel {
    const NAME: &'static str = "Parcel";
    const PACKAGE: &'static str = "fluffle.compare";
}

/// Makes bodies of one size. Their filling is shared: making them is not what is measured.
#[derive(Debug)]
pub(crate) struct Bodies {
    parcel: Parcel,
    encoded: Vec<u8>,
}

impl Bodies {
    /// Bodies of exactly `bytes`, 32 at least.
    pub(crate) fn new(bytes: usize) -> Self {
        let filled = |length: usize| Parcel { number: 1, filler: (0..length).map(|at| at as u8).collect() };
        // The filling's length has a length of its own: take away what is too much.
        let excess = filled(bytes).encoded_len() - bytes;
        let excess = filled(bytes - excess).encoded_len() + excess - bytes;
        let parcel = filled(bytes - excess);
        Self { encoded: parcel.encode_to_vec(), parcel }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// What a parcel has beside its number, in bytes.
    pub(crate) fn filling(&self) -> usize {
        self.parcel.filler.len()
    }

    /// Message `number`, to be encoded.
    pub(crate) fn parcel(&self, number: u64) -> Parcel {
        Parcel { number, filler: self.parcel.filler.clone() }
    }

    /// Message `number`, encoded.
    pub(crate) fn encoded(&self, number: u64) -> Vec<u8> {
        let mut body = self.encoded.clone();
        stamp(&mut body, number);
        body
    }
}

/// Makes the encoded `body` message `number`.
pub(crate) fn stamp(body: &mut [u8], number: u64) {
    body[NUMBER].copy_from_slice(&number.to_le_bytes());
}

/// The number of an encoded message; 0, which none has, when it is too short.
pub(crate) fn number(body: &[u8]) -> u64 {
    body.get(NUMBER).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_size_asked_for() {
        for bytes in [32, 100, 139, 140, 141, 1024, 16_394, 16_395, 64 * 1024] {
            let bodies = Bodies::new(bytes);
            // 127 and 128, or 16,383 and 16,384 bytes of filling differ by two on the wire: one size between them is not to be had.
            assert!(bodies.bytes().abs_diff(bytes) <= 1, "{bytes}: {}", bodies.bytes());
        }
        assert_eq!(Bodies::new(100).bytes(), 100);
        assert_eq!(Bodies::new(64 * 1024).bytes(), 64 * 1024);
    }

    #[test]
    fn a_stamped_body_is_the_parcel_of_that_number() {
        let bodies = Bodies::new(100);
        let body = bodies.encoded(70_000);
        assert_eq!(number(&body), 70_000);
        assert_eq!(Parcel::decode(&*body).unwrap(), bodies.parcel(70_000));
        assert_eq!(body, bodies.parcel(70_000).encode_to_vec());
    }

    #[test]
    fn what_is_too_short_has_no_number() {
        assert_eq!(number(&[9; 8]), 0);
    }
}
