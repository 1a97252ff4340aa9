//! The message of the load: the generator's own few bytes, then the payload.

use bytes::Bytes;
use prost::Name;

/// A message of the load. Its own fields have a fixed size and are always written, so that messages of an exact size
/// can be made.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    /// The run to which the message belongs. A queue may hold messages of another run.
    #[prost(fixed32, required, tag = "1")]
    pub(crate) run: u32,
    /// The producer and queue: producer × queues + queue.
    #[prost(fixed32, required, tag = "2")]
    pub(crate) stream: u32,
    /// The message's number in this stream, from 0.
    #[prost(fixed64, required, tag = "3")]
    pub(crate) sequence: u64,
    /// When the message was due to be sent, in nanoseconds of the run's clock.
    #[prost(fixed64, required, tag = "4")]
    pub(crate) due: u64,
    #[prost(bytes = "bytes", required, tag = "5")]
    pub(crate) payload: Bytes,
}

impl Name for Message {
    const NAME: &'static str = "Message";
    const PACKAGE: &'static str = "fluffle.bench.v1";
}

/// Two fields of 4 bytes, two of 8, and a tag for each.
const OWN: usize = 2 * 5 + 2 * 9;

/// The smallest message: its own fields and an empty payload.
pub(crate) const SMALLEST: usize = OWN + 2;

/// The length of the payload that makes a message of `size` bytes. If the payload's length would then need one more
/// byte, the message is one byte smaller.
pub(crate) fn payload_len(size: usize) -> usize {
    let room = size.saturating_sub(OWN + 1);
    let varint = prost::encoding::encoded_len_varint;
    (1..=5).map(|digits| room.saturating_sub(digits)).find(|len| len + varint(*len as u64) <= room).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_message_has_the_size_that_was_asked_for() {
        for size in SMALLEST..40_000 {
            let payload = Bytes::from(vec![7; payload_len(size)]);
            let len = Message { run: 0, stream: 0, sequence: 0, due: 0, payload }.encoded_len();
            assert!(len == size || len + 1 == size, "{len} instead of {size}");
        }
        let (zero, large) = (Message::default(), Message { sequence: u64::MAX, due: u64::MAX, ..Message::default() });
        assert_eq!([zero.encoded_len(), large.encoded_len()], [SMALLEST; 2], "whatever its numbers");
    }
}
