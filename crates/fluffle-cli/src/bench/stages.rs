//! Where a message spends its time, by what can be seen from outside the framework: one message in [`EVERY`].
//!
//! A codec is called at the beginning and the end of encoding and decoding, so a codec that looks at the clock sees those
//! two. The first poll of `enqueue` ends when the message is compressed, labelled and, if there is room, handed over; what
//! follows is waiting for room. A message that finds its batch full has that compressed, labelled and handed over first. `Delivery::received_at` and `Delivery::settled` give the rest. What lies between handing
//! over and receiving (its batch's filling, the publisher's outbox, the wire, the broker, its queue) is one stage here, for nothing is to be
//! seen in between; it is the mean of what is left.

use std::{cell::Cell, time::Instant};

use bytes::Bytes;
use fluffle::wire::{Codec, DecodeError, EncodeError, Protobuf};

use crate::bench::message::Message;

/// One message in so many is timed in every stage.
pub(crate) const EVERY: u64 = 16;

/// Whether it is this one. By chance: batches have sizes of their own, with which every sixteenth might keep step.
pub(crate) fn is_sampled() -> bool {
    fastrand::u64(..EVERY) == 0
}

/// A part of a message's life.
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
    /// In the order of a message's life.
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

    /// A name that does not change.
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

    /// What is in it.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Schedule => "due, and the producer was not there yet",
            Self::Encode => "message to bytes",
            Self::Compress => "gzip if on, properties, handing over",
            Self::Room => "waiting for room in the publisher",
            Self::Broker => "batch if on, outbox, wire, broker and queue, wire",
            Self::Mailbox => "received, waiting for a handler; gunzip if on",
            Self::Decode => "bytes to message",
            Self::Handle => "the handler, which verifies the message",
            Self::Settle => "from the handler's answer to the ack",
        }
    }
}

/// When something began and ended.
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

/// From here on the next encoding on this thread is timed.
pub(crate) fn watch_encoding() {
    ENCODED.set(Watch::Ready);
}

/// The encoding that was timed.
pub(crate) fn encoded() -> Option<Span> {
    match ENCODED.replace(Watch::Off) {
        Watch::Stopped(span) => Some(span),
        Watch::Off | Watch::Ready | Watch::Running(_) => None,
    }
}

/// The last decoding on this thread, if it was timed and has not been asked for yet.
pub(crate) fn decoded() -> Option<Span> {
    DECODED.take()
}

/// Protobuf, with a look at the clock now and then.
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
        // Asked for once more when the first try found its batch full.
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
