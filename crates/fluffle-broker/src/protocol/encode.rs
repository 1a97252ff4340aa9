//! Encodes effects as frames. Deliveries and confirms, which are nearly all of a broker's output, are encoded directly;
//! everything else uses the general encoder.

use std::borrow::Cow;

use amq_protocol::protocol::{AMQPClass, basic, constants};
use bytes::{BufMut, BytesMut};

use super::{frame, output::Output};
use crate::engine::{AddedHeader, Effect, Fetched, Message, Refusal};

/// Bytes around the payload of a frame.
const OVERHEAD: usize = 8;

const NO_ROUTE: &[u8] = b"NO_ROUTE";

/// Writes an effect that changes no state here.
pub(crate) fn effect(output: &mut Output, channel: u16, frame_max: usize, effect: &Effect) {
    match effect {
        Effect::Deliver { consumer, tag, redelivered, message, header } => {
            output.write(|out| deliver(out, channel, consumer, *tag, *redelivered, message));
            content(output, channel, frame_max, message, *header);
        }
        Effect::Ack { tag, multiple } => output.write(|out| settle(out, channel, 80, *tag, u8::from(*multiple))),
        Effect::Nack { tag } => output.write(|out| settle(out, channel, 120, *tag, 0)),
        Effect::Return(message) => {
            output.write(|out| returned(out, channel, message));
            content(output, channel, frame_max, message, None);
        }
        Effect::Cancel(tag) => {
            let cancel = basic::Cancel { consumer_tag: (&**tag).into(), nowait: true };
            method(output, channel, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
        }
        // The dispatcher closes channels, because that changes their state.
        Effect::CloseChannel(_) => {}
    }
}

/// Writes any method.
pub(crate) fn method(output: &mut Output, channel: u16, class: AMQPClass) {
    let encoded = frame::encode(channel, class);
    output.write(|out| out.put_slice(&encoded));
}

/// Writes the answer to `basic.get`.
pub(crate) fn fetched(output: &mut Output, channel: u16, frame_max: usize, fetched: &Fetched) {
    output.write(|out| get_ok(out, channel, fetched));
    content(output, channel, frame_max, &fetched.message, fetched.header);
}

/// Begins a frame of known size.
fn begin(out: &mut BytesMut, kind: u8, channel: u16, size: usize) {
    out.reserve(size + OVERHEAD);
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(size as u32);
}

/// A short string. The broker holds none longer than 255 bytes.
fn short_text(out: &mut BytesMut, text: &[u8]) {
    out.put_u8(text.len() as u8);
    out.put_slice(text);
}

/// The size of the exchange and the routing key in the method of a message.
fn envelope_size(message: &Message) -> usize {
    1 + message.exchange.len() + 1 + message.key.len()
}

/// Encoded by hand, like everything that contains a routing key: the key may be any bytes, but the general encoder
/// accepts only UTF-8.
fn envelope(out: &mut BytesMut, message: &Message) {
    short_text(out, message.exchange.as_bytes());
    short_text(out, &message.key);
}

fn returned(out: &mut BytesMut, channel: u16, message: &Message) {
    begin(out, constants::FRAME_METHOD, channel, 4 + 2 + 1 + NO_ROUTE.len() + envelope_size(message));
    out.put_u16(60);
    out.put_u16(50);
    out.put_u16(312);
    short_text(out, NO_ROUTE);
    envelope(out, message);
    out.put_u8(constants::FRAME_END);
}

fn get_ok(out: &mut BytesMut, channel: u16, fetched: &Fetched) {
    begin(out, constants::FRAME_METHOD, channel, 4 + 8 + 1 + envelope_size(&fetched.message) + 4);
    out.put_u16(60);
    out.put_u16(71);
    out.put_u64(fetched.tag);
    out.put_u8(u8::from(fetched.redelivered));
    envelope(out, &fetched.message);
    out.put_u32(u32::try_from(fetched.remaining).unwrap_or(u32::MAX));
    out.put_u8(constants::FRAME_END);
}

/// `connection.close` or `channel.close`. The text may be any bytes, and is cut to the 255 bytes of a short string.
/// `cause` is the class and method that caused the close.
pub(crate) fn close(output: &mut Output, channel: u16, refusal: &Refusal, cause: (u16, u16)) {
    let text = cut(&refusal.text);
    output.write(|out| {
        begin(out, constants::FRAME_METHOD, channel, 4 + 2 + 1 + text.len() + 4);
        let (class, method) = if channel == 0 { (10, 50) } else { (20, 40) };
        out.put_u16(class);
        out.put_u16(method);
        out.put_u16(refusal.code);
        short_text(out, &text);
        out.put_u16(cause.0);
        out.put_u16(cause.1);
        out.put_u8(constants::FRAME_END);
    });
}

/// Cuts a text to the 255 bytes of a short string, and marks the cut. UTF-8 is cut between characters.
pub(crate) fn cut(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() <= 255 {
        return text.into();
    }
    let continues = |at: usize| text.get(at).is_some_and(|octet| octet & 0xC0 == 0x80);
    let end = if std::str::from_utf8(text).is_ok() { (0..=252).rev().find(|at| !continues(*at)) } else { None };
    [&text[..end.unwrap_or(252)], b"..."].concat().into()
}

fn deliver(out: &mut BytesMut, channel: u16, consumer: &str, tag: u64, redelivered: bool, message: &Message) {
    let size = 4 + 1 + consumer.len() + 8 + 1 + envelope_size(message);
    begin(out, constants::FRAME_METHOD, channel, size);
    out.put_u16(60);
    out.put_u16(60);
    short_text(out, consumer.as_bytes());
    out.put_u64(tag);
    out.put_u8(u8::from(redelivered));
    envelope(out, message);
    out.put_u8(constants::FRAME_END);
}

/// `basic.ack` and `basic.nack` have the same fields.
fn settle(out: &mut BytesMut, channel: u16, id: u16, tag: u64, bits: u8) {
    begin(out, constants::FRAME_METHOD, channel, 13);
    out.put_u16(60);
    out.put_u16(id);
    out.put_u64(tag);
    out.put_u8(bits);
    out.put_u8(constants::FRAME_END);
}

/// Content header and body frames. A header larger than the negotiated frame is sent unchanged, as RabbitMQ does: the
/// receiver may have another limit than the publisher, and the broker adds headers of its own.
fn content(output: &mut Output, channel: u16, frame_max: usize, message: &Message, header: Option<AddedHeader>) {
    let properties = message.delivered_properties(header);
    output.write(|out| {
        begin(out, constants::FRAME_HEADER, channel, 12 + properties.len());
        out.put_u16(60);
        out.put_u16(0);
        out.put_u64(message.body.len() as u64);
        out.put_slice(&properties);
        out.put_u8(constants::FRAME_END);
    });
    let mut rest = message.body.clone();
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(frame_max - OVERHEAD));
        output.write(|out| begin(out, constants::FRAME_BODY, channel, part.len()));
        output.body(part);
        output.write(|out| out.put_u8(constants::FRAME_END));
    }
}
