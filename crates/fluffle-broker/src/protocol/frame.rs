//! Cuts the byte stream into frames (AMQP 0-9-1 section 2.3.5).

use amq_protocol::{
    frame::{AMQPFrame, GenError, WriteContext, gen_frame},
    protocol::{AMQPClass, constants, parse_class},
};
use bytes::{Buf, Bytes, BytesMut};

use crate::engine::{Reader, Refusal};

const HEADER: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Method,
    Header,
    Body,
    Heartbeat,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

/// Takes the first whole frame from the buffer; `frame_max` bounds it, end and beginning included.
pub(crate) fn split(buffer: &mut BytesMut, frame_max: usize) -> Result<Option<Frame>, Refusal> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let [kind, channel_high, channel_low, size @ ..] = *header;
    let channel = u16::from_be_bytes([channel_high, channel_low]);
    let size = u32::from_be_bytes(size) as usize;
    let kind = match kind {
        constants::FRAME_METHOD => FrameKind::Method,
        constants::FRAME_HEADER => FrameKind::Header,
        constants::FRAME_BODY => FrameKind::Body,
        constants::FRAME_HEARTBEAT => FrameKind::Heartbeat,
        other => return Err(Refusal::frame(format!("unknown frame type {other}"))),
    };
    if size > frame_max.saturating_sub(HEADER + 1) {
        let text = format!("type {}, payload size {size}, larger than frame max {frame_max}", header[0]);
        return Err(Refusal::frame(text));
    }
    if buffer.len() < HEADER + size + 1 {
        return Ok(None);
    }
    buffer.advance(HEADER);
    let payload = buffer.split_to(size).freeze();
    let end = buffer.get_u8();
    if end != constants::FRAME_END {
        return Err(Refusal::frame(format!("invalid frame end marker {end}")));
    }
    Ok(Some(Frame { kind, channel, payload }))
}

/// Decodes a method. Field tables are looked over first: the decoder recurses into them.
pub(crate) fn method(payload: &[u8]) -> Result<AMQPClass, Refusal> {
    let mut reader = Reader::new(payload);
    let malformed = || Refusal::syntax("malformed method");
    let (class, method) = reader.u16().zip(reader.u16()).ok_or_else(malformed)?;
    let shape: &[u8] = match (class, method) {
        (10, 11) => b"t",
        (40, 10) => b"wssbt",
        (40, 30) | (40, 40) | (50, 20) => b"wsssbt",
        (50, 50) => b"wssst",
        (50, 10) => b"wsbt",
        (60, 20) => b"wssbt",
        // The broker's own `connection.start` is not for clients to send.
        (10, 10) => return Err(Refusal::command_invalid("unexpected method connection.start")),
        _ => b"",
    };
    for field in shape {
        match field {
            b'w' => reader.skip(2),
            b's' => reader.short_text().map(|_| ()),
            b'b' => reader.skip(1),
            _ => reader.table(),
        }
        .ok_or_else(malformed)?;
    }
    match parse_class(payload) {
        Ok(([], method)) => Ok(method),
        _ => Err(malformed()),
    }
}

/// Encodes a method.
pub(crate) fn encode(channel: u16, method: AMQPClass) -> Vec<u8> {
    let frame = AMQPFrame::Method(channel, method);
    let written: Result<_, GenError> = gen_frame(&frame)(WriteContext::from(Vec::new()));
    written.map(|context| context.into_inner().0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u8, channel: u16, payload: &[u8], end: u8) -> BytesMut {
        let mut all = BytesMut::new();
        all.extend_from_slice(&[kind]);
        all.extend_from_slice(&channel.to_be_bytes());
        all.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        all.extend_from_slice(payload);
        all.extend_from_slice(&[end]);
        all
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        let whole = bytes(3, 7, b"body", 0xCE);
        for end in 0..whole.len() {
            assert!(split(&mut whole[..end].into(), 4096).unwrap().is_none(), "{end}");
        }
        let mut buffer = whole;
        let frame = split(&mut buffer, 4096).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, &frame.payload[..]), (FrameKind::Body, 7, &b"body"[..]));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_of_exactly_frame_max_passes_and_one_byte_more_is_501() {
        assert!(split(&mut bytes(3, 1, &[0; 92], 0xCE), 100).unwrap().is_some());
        assert_eq!(split(&mut bytes(3, 1, &[0; 93], 0xCE), 100).unwrap_err().code, 501);
    }

    #[test]
    fn an_unknown_type_and_a_wrong_end_are_501() {
        assert_eq!(split(&mut bytes(9, 1, b"", 0xCE), 4096).unwrap_err().code, 501);
        assert_eq!(split(&mut bytes(1, 1, b"", 0xCD), 4096).unwrap_err().code, 501);
    }
}
