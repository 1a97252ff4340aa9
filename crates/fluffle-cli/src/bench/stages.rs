//! Measures how long a message spends in each stage, from outside the framework, for one message in [`EVERY`].
//!
//! - Encoding and decoding: the codec reads the clock before and after.
//! - Compressing: the first poll of `enqueue` ends when the message is compressed, labelled and, if there is room,
//!   handed over. If a message finds its batch full, that batch is first compressed, labelled and handed over.
//! - Waiting for room: everything after the first poll of `enqueue`.
//! - Receiving and settling: `Delivery::received_at` and `Delivery::settled` give these times.
//!
//! The time between handing over and receiving (filling of the batch, the publisher's outbox, the wire, the broker and
//! its queue) is one stage, because nothing in between can be observed. Only its mean is known: the rest that the other
//! stages leave.

use std::{cell::Cell, time::Instant};

use bytes::Bytes;
use fluffle::wire::{Codec, DecodeError, EncodeError, Protobuf};

use crate::bench::message::Message;

/// One message in this many is timed in every stage.
pub(crate) const EVERY: u64 = 16;

/// Whether to time this message. Decided at random, because every sixteenth message could fall on the same place in
/// each batch.
pub(crate) fn is_sampled() -> bool {
    fastrand::u64(..EVERY) == 0
}

/// A stage of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Schedule,
    Encode,
    Compress,
    Room,
    Broker,
    Mailbox,
    Decode,
    Handle,
    Settle,
}

impl Stage {
    /// All stages in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Schedule,
        Self::Encode,
        Self::Compress,
        Self::Room,
        Self::Broker,
        Self::Mailbox,
        Self::Decode,
        Self::Handle,
        Self::Settle,
    ];

    /// The stable name of the stage.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Encode => "encode",
            Self::Compress => "compress",
            Self::Room => "room",
            Self::Broker => "broker",
            Self::Mailbox => "mailbox",
            Self::Decode => "decode",
            Self::Handle => "handle",
            Self::Settle => "settle",
        }
    }

    /// What the stage includes.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Schedule => "message due, producer still busy",
            Self::Encode => "message to bytes",
            Self::Compress => "gzip if enabled, properties, handing over",
            Self::Room => "waiting for room in the publisher",
            Self::Broker => "batch if enabled, outbox, wire, broker and queue, wire",
            Self::Mailbox => "received, waiting for a handler; gunzip if enabled",
            Self::Decode => "bytes to message",
            Self::Handle => "the handler, which verifies the message",
            Self::Settle => "from the handler's answer to the ack",
        }
    }
}

/// The begin and end of a stage.
pub(crate) type Span = (Instant, Instant);

thread_local! {
    static ENCODED: Cell<Watch> = const { Cell::new(Watch::Off) };
    static DECODED: Cell<Option<Span>> = const { Cell::new(None) };
}

/// A stopwatch for one encoding.
#[derive(Clone, Copy)]
enum Watch {
    Off,
    Ready,
    Running(Instant),
    Stopped(Span),
}

/// Times the next encoding on this thread.
pub(crate) fn watch_encoding() {
    ENCODED.set(Watch::Ready);
}

/// Takes the times of the encoding that was timed.
pub(crate) fn encoded() -> Option<Span> {
    match ENCODED.replace(Watch::Off) {
        Watch::Stopped(span) => Some(span),
        Watch::Off | Watch::Ready | Watch::Running(_) => None,
    }
}

/// Takes the times of the last timed decoding on this thread. `None` if there is none, or if it was already taken.
pub(crate) fn decoded() -> Option<Span> {
    DECODED.take()
}

/// Protobuf that times some encodings and decodings.
#[derive(Clone, Copy)]
pub(crate) struct Timed;

impl Codec<Message> for Timed {
    fn media_type(&self) -> &str {
        Codec::<Message>::media_type(&Protobuf)
    }

    fn type_name(&self) -> String {
        Codec::<Message>::type_name(&Protobuf)
    }

    fn accepts(&self, media_type: &str) -> bool {
        Codec::<Message>::accepts(&Protobuf, media_type)
    }

    fn encoded_len(&self, message: &Message) -> Option<usize> {
        // Called again, and timed anew, if the first try found its batch full.
        if let Watch::Ready | Watch::Running(_) = ENCODED.get() {
            ENCODED.set(Watch::Running(Instant::now()));
        }
        Protobuf.encoded_len(message)
    }

    fn encode(&self, message: &Message, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let encoded = Protobuf.encode(message, into);
        if let Watch::Running(begin) = ENCODED.get() {
            ENCODED.set(Watch::Stopped((begin, Instant::now())));
        }
        encoded
    }

    fn decode(&self, body: &Bytes) -> Result<Message, DecodeError> {
        if !is_sampled() {
            return Protobuf.decode(body);
        }
        let begin = Instant::now();
        let message = Protobuf.decode(body);
        DECODED.set(Some((begin, Instant::now())));
        message
    }
}

#[cfg(test)]
mod tests {
    use fluffle::wire::Wire;

    use super::*;

    #[test]
    fn an_encoding_is_timed_when_asked_for_and_only_then() {
        let (wire, message) = (Wire::new(Timed), Message::default());
        wire.encode(&message).unwrap();
        assert!(encoded().is_none());
        watch_encoding();
        wire.encode(&message).unwrap();
        let (begin, end) = encoded().unwrap();
        assert!(begin <= end && encoded().is_none());
    }

    #[test]
    fn a_try_that_found_its_batch_full_is_none_of_the_encoding() {
        let message = Message::default();
        watch_encoding();
        Timed.encoded_len(&message);
        let sealed = Instant::now();
        Wire::new(Timed).encode(&message).unwrap();
        assert!(encoded().unwrap().0 >= sealed);
    }

    #[test]
    fn about_one_decoding_in_so_many_is_timed() {
        let wire = Wire::new(Timed);
        let sent = wire.encode(&Message::default()).unwrap();
        fastrand::seed(1);
        let timed = (0..1000 * EVERY).filter(|_| {
            wire.decode(&sent.incoming()).unwrap();
            decoded().is_some()
        });
        let timed = timed.count();
        assert!((900..1100).contains(&timed), "{timed}");
    }
}
