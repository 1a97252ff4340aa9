//! Writes effects as frames. Deliveries and confirms, nearly all of a broker's output, are written
//! straight into the output; everything else goes through the general encoder.

use amq_protocol::protocol::{AMQPClass, basic, constants};
use bytes::{BufMut, Bytes, BytesMut};

use super::{frame, output::Output};
use crate::engine::{Effect, Fetched, Message};

/// Bytes around a frame's payload.
const OVERHEAD: usize = 8;

/// Writes an effect that needs no change of state here.
pub(crate) fn effect(output: &mut Output, channel: u16, frame_max: usize, effect: &Effect) {
    match effect {
        Effect::Deliver { consumer, tag, redelivered, message, delivery_count } => {
            output.write(|out| deliver(out, channel, consumer, *tag, *redelivered, message));
            content(output, channel, frame_max, message, *delivery_count);
        }
        Effect::Ack { tag, multiple } => output.write(|out| settle(out, channel, 80, *tag, u8::from(*multiple))),
        Effect::Nack { tag } => output.write(|out| settle(out, channel, 120, *tag, 0)),
        Effect::Return(message) => {
            let returned = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: (&*message.exchange).into(),
                routing_key: (&*message.key).into(),
            };
            method(output, channel, AMQPClass::Basic(basic::AMQPMethod::Return(returned)));
            content(output, channel, frame_max, message, 0);
        }
        Effect::Cancel(tag) => {
            let cancel = basic::Cancel { consumer_tag: (&**tag).into(), nowait: true };
            method(output, channel, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
        }
        // The dispatcher closes channels: that changes their state.
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
    let answer = basic::GetOk {
        delivery_tag: fetched.tag,
        redelivered: fetched.redelivered,
        exchange: (&*fetched.message.exchange).into(),
        routing_key: (&*fetched.message.key).into(),
        message_count: u32::try_from(fetched.remaining).unwrap_or(u32::MAX),
    };
    method(output, channel, AMQPClass::Basic(basic::AMQPMethod::GetOk(answer)));
    content(output, channel, frame_max, &fetched.message, fetched.delivery_count);
}

/// Begins a frame of known size.
fn begin(out: &mut BytesMut, kind: u8, channel: u16, size: usize) {
    out.reserve(size + OVERHEAD);
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(size as u32);
}

/// A short string; the broker keeps none that is longer than 255 bytes.
fn short_text(out: &mut BytesMut, text: &str) {
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

fn deliver(out: &mut BytesMut, channel: u16, consumer: &str, tag: u64, redelivered: bool, message: &Message) {
    let size = 4 + 1 + consumer.len() + 8 + 1 + 1 + message.exchange.len() + 1 + message.key.len();
    begin(out, constants::FRAME_METHOD, channel, size);
    out.put_u16(60);
    out.put_u16(60);
    short_text(out, consumer);
    out.put_u64(tag);
    out.put_u8(u8::from(redelivered));
    short_text(out, &message.exchange);
    short_text(out, &message.key);
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

/// Content header and body frames.
fn content(output: &mut Output, channel: u16, frame_max: usize, message: &Message, delivery_count: u32) {
    let properties: Bytes = match delivery_count {
        0 => message.properties.raw.clone(),
        count => message.properties_with_delivery_count(count),
    };
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
