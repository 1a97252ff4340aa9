//! The message bodies: a small Protobuf message with its number in it, the same for all contestants.

use std::sync::Arc;

use bytes::Bytes;
use prost::{Message, Name};
use protos::usgs::Quake;

/// The bytes of field 1, the number: eight bytes after a tag byte.
const NUMBER: std::ops::Range<usize> = 1..9;

/// The body for contestants that decode Protobuf. The others read the number from its bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Parcel {
    /// Starts at 1, because proto3 leaves out a zero.
    #[prost(fixed64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) filler: Bytes,
}

impl Name for Parcel {
    const NAME: &'static str = "Parcel";
    const PACKAGE: &'static str = "fluffle.compare";
}

/// Makes messages. Their content is prepared beforehand, because making them must not be measured.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    parcel: Parcel,
    encoded: Vec<u8>,
    /// Records to use instead, in turns, if there are any.
    quakes: Arc<[Quake]>,
}

impl Bodies {
    /// Bodies of exactly `bytes`, at least 32.
    pub(crate) fn of_size(bytes: usize) -> Self {
        // Never freed, so a copy updates no reference count.
        let filling = Bytes::from_static((0..bytes).map(|at| at as u8).collect::<Vec<_>>().leak());
        let filled = |length: usize| Parcel { number: 1, filler: filling.slice(..length) };
        // The length of the filling is encoded, too, so subtract the excess.
        let excess = filled(bytes).encoded_len() - bytes;
        let excess = filled(bytes - excess).encoded_len() + excess - bytes;
        let parcel = filled(bytes - excess);
        Self { encoded: parcel.encode_to_vec(), parcel, quakes: Arc::default() }
    }

    /// Bodies with these records, over and over.
    pub(crate) fn of_quakes(quakes: Vec<Quake>) -> Self {
        Self { quakes: quakes.into(), ..Self::of_size(32) }
    }

    /// The average encoded size of a message, rounded down.
    pub(crate) fn bytes(&self) -> usize {
        match self.quakes.len() {
            0 => self.encoded.len(),
            count => self.quakes.iter().map(Message::encoded_len).sum::<usize>() / count,
        }
    }

    /// The size of a parcel without its number, in bytes.
    pub(crate) fn filling(&self) -> usize {
        self.parcel.filler.len()
    }

    /// The share of message `number` in the checksum over all messages.
    pub(crate) fn fingerprint(&self, number: u64) -> u64 {
        if self.quakes.is_empty() { number } else { fingerprint(self.record(number)) }
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

    /// Message `number` of records.
    pub(crate) fn quake(&self, number: u64) -> Quake {
        self.record(number).clone()
    }

    fn record(&self, number: u64) -> &Quake {
        &self.quakes[(number % self.quakes.len() as u64) as usize]
    }
}

/// The time of a quake in milliseconds, which few quakes share.
pub(crate) fn fingerprint(quake: &Quake) -> u64 {
    let time = quake.event_time.unwrap_or_default();
    (time.seconds * 1000 + i64::from(time.nanos) / 1_000_000).unsigned_abs()
}

/// Makes the encoded `body` message `number`.
pub(crate) fn stamp(body: &mut [u8], number: u64) {
    body[NUMBER].copy_from_slice(&number.to_le_bytes());
}

/// The number of an encoded message; 0, which no message has, if it is too short.
pub(crate) fn number(body: &[u8]) -> u64 {
    body.get(NUMBER).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn bodies_have_the_size_asked_for() {
        for bytes in [32, 100, 138, 141, 1024, 64 * 1024] {
            assert_eq!(Bodies::of_size(bytes).bytes(), bytes);
        }
    }

    #[test]
    fn a_stamped_body_is_the_parcel_of_that_number() {
        let bodies = Bodies::of_size(100);
        let body = bodies.encoded(70_000);
        assert_eq!(number(&body), 70_000);
        assert_eq!(Parcel::decode(&*body).unwrap(), bodies.parcel(70_000));
        assert_eq!(body, bodies.parcel(70_000).encode_to_vec());
    }

    #[test]
    fn records_take_turns_and_are_told_apart() {
        let at = |seconds| Quake { event_time: Some(Timestamp { seconds, nanos: 7_000_000 }), ..Quake::default() };
        let bodies = Bodies::of_quakes(vec![at(1), at(2)]);
        assert_eq!((bodies.quake(3), bodies.quake(4)), (at(2), at(1)));
        assert_eq!((bodies.fingerprint(3), bodies.fingerprint(4)), (2007, 1007));
        assert_eq!(bodies.bytes(), at(1).encoded_len());
    }

    #[test]
    fn what_is_too_short_has_no_number() {
        assert_eq!(number(&[9; 8]), 0);
    }
}
