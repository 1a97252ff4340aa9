//! Splits the byte stream into frames (AMQP 0-9-1 section 2.3.5), and describes a bad frame in RabbitMQ's words.

use amq_protocol::{
    frame::{AMQPFrame, GenError, WriteContext, gen_frame},
    protocol::{AMQPClass, constants, parse_class},
};
use bytes::{Buf, Bytes, BytesMut};

use crate::engine::{Reader, Refusal, Table};

const HEADER: usize = 7;

/// Octets of a frame besides its payload.
const OVERHEAD: usize = HEADER + 1;

/// How many octets of undecodable fields are shown. A reply text has no room for more.
const SHOWN: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Method,
    Header,
    Body,
    Heartbeat,
}

#[derive(Debug)]
pub(crate) struct Frame {
    kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// The kind of the frame; 501 if it has none.
    pub(crate) fn kind(&self) -> Result<FrameKind, Refusal> {
        match (self.kind, self.payload.len()) {
            (constants::FRAME_METHOD, 4..) => Ok(FrameKind::Method),
            (constants::FRAME_HEADER, 12..) => Ok(FrameKind::Header),
            (constants::FRAME_BODY, _) => Ok(FrameKind::Body),
            (constants::FRAME_HEARTBEAT, 0) => Ok(FrameKind::Heartbeat),
            _ => Err(malformed(self.kind, &self.payload, "unknown_frame")),
        }
    }

    /// 505: a frame of this kind is not allowed on this channel.
    pub(crate) fn misplaced(&self) -> Refusal {
        Refusal::unexpected_frame(described(self.kind, &self.payload))
    }

    /// The class and method at the beginning of a method frame.
    pub(crate) fn ids(&self) -> (u16, u16) {
        let mut reader = Reader::new(&self.payload);
        reader.u16().zip(reader.u16()).unwrap_or_default()
    }

    /// The first argument of `basic.qos`, which the decoder drops.
    pub(crate) fn prefetch_size(&self) -> u32 {
        let mut reader = Reader::new(&self.payload);
        reader.skip(4).and_then(|()| reader.u32()).unwrap_or_default()
    }
}

fn malformed(kind: u8, payload: &[u8], error: &str) -> Refusal {
    Refusal::frame(format!("{}: {error}", described(kind, payload)))
}

fn described(kind: u8, payload: &[u8]) -> String {
    let (extent, octets) = match payload.get(..16) {
        Some(first) if payload.len() > 16 => ("first 16", first),
        _ => ("all", payload),
    };
    let readable = |octet: &u8| octet.is_ascii_graphic() || *octet == b' ';
    let shown = match std::str::from_utf8(octets) {
        Ok(text) if !text.is_empty() && octets.iter().all(readable) => format!("<<{text:?}>>"),
        _ => binary(octets),
    };
    format!("type {kind}, {extent} octets = {shown}")
}

/// Octets as Erlang writes a binary.
fn binary(octets: &[u8]) -> String {
    let octets: Vec<String> = octets.iter().map(u8::to_string).collect();
    format!("<<{}>>", octets.join(","))
}

/// Takes the first whole frame from the buffer. `frame_max` limits its payload, as leniently as RabbitMQ.
pub(crate) fn split(buffer: &mut BytesMut, frame_max: usize) -> Result<Option<Frame>, Refusal> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let [kind, channel_high, channel_low, size @ ..] = *header;
    let channel = u16::from_be_bytes([channel_high, channel_low]);
    let size = u32::from_be_bytes(size) as usize;
    if size > frame_max {
        let most = frame_max.saturating_sub(OVERHEAD);
        return Err(malformed(kind, b"", &format!("{{frame_too_large,{size},{most}}}")));
    }
    if buffer.len() < OVERHEAD + size {
        return Ok(None);
    }
    buffer.advance(HEADER);
    let payload = buffer.split_to(size).freeze();
    let end = buffer.get_u8();
    if end != constants::FRAME_END {
        return Err(malformed(kind, &payload, &format!("{{invalid_frame_end_marker,{end}}}")));
    }
    Ok(Some(Frame { kind, channel, payload }))
}

/// A method from a client.
#[derive(Debug)]
pub(crate) enum Method<'a> {
    /// `basic.publish`. RabbitMQ accepts any bytes as its exchange and routing key.
    Publish(Publish<'a>),
    /// Any other method, and its field table, which is taken out of the method: the generated decoder would recurse
    /// into nested tables.
    Other(AMQPClass, Table),
}

/// `basic.publish`.
#[derive(Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) key: &'a [u8],
    pub(crate) mandatory: bool,
    pub(crate) immediate: bool,
}

/// Why a method could not be decoded.
#[derive(Debug)]
pub(crate) enum Undecodable {
    /// Its fields do not match its method: 501.
    Fields(Refusal),
    /// A short string in it is not UTF-8: 501.
    Text(Refusal),
    /// A table in it contains a value that RabbitMQ cannot read. RabbitMQ's process for the connection crashes over
    /// that, and the client gets no reason.
    Table,
}

/// The fields of those client methods that have texts or tables: `w` is two octets, `b` one, `l` four, `s` a short
/// string, `S` a long string, `t` a table. Only a table may be followed by other fields.
fn shape(class: u16, method: u16) -> &'static [u8] {
    match (class, method) {
        (10, 11) => b"tsSs",
        (10, 40) => b"ssb",
        (10, 50) | (20, 40) => b"wsww",
        (10, 70) => b"Ss",
        (20, 10) => b"s",
        (30, 10) => b"sb",
        (40, 10) => b"wssbt",
        (40, 20) => b"wsb",
        (40, 30) | (40, 40) | (50, 20) => b"wsssbt",
        (50, 10) => b"wsbt",
        (50, 30) | (50, 40) => b"wsb",
        (50, 50) => b"wssst",
        (60, 20) => b"wssbt",
        (60, 30) => b"sb",
        (60, 40) => b"wssb",
        (60, 70) => b"wsb",
        _ => b"",
    }
}

/// Decodes a method.
pub(crate) fn method(payload: &[u8]) -> Result<Method<'_>, Undecodable> {
    let mut reader = Reader::new(payload);
    let undecodable = || {
        let fields = payload.get(4..).unwrap_or_default();
        Undecodable::Fields(Refusal::frame(format!("cannot decode {}", binary(&fields[..fields.len().min(SHOWN)]))))
    };
    let ids = reader.u16().zip(reader.u16()).ok_or_else(undecodable)?;
    let place = |reader: &Reader<'_>| payload.len() - reader.left();
    let (mut texts, mut bits, mut table) = ([&b""[..]; 3], 0, None);
    let (mut count, shape) = (0, shape(ids.0, ids.1));
    for field in shape {
        match field {
            b'w' => reader.skip(2).ok_or_else(undecodable)?,
            b'b' => bits = reader.u8().ok_or_else(undecodable)?,
            b'S' => reader.long().map(|_| ()).ok_or_else(undecodable)?,
            b's' => {
                let text = reader.short().ok_or_else(undecodable)?;
                if let Some(kept) = texts.get_mut(count) {
                    *kept = text;
                }
                count += 1;
            }
            _ => {
                let from = place(&reader);
                let fields = reader.long().ok_or_else(undecodable)?;
                table = Some((from..place(&reader), fields));
            }
        }
    }
    if !shape.is_empty() && !reader.is_empty() {
        return Err(undecodable());
    }
    if ids == (60, 40) {
        let [exchange, key, _] = texts;
        let (mandatory, immediate) = (bits & 1 != 0, bits & 2 != 0);
        return Ok(Method::Publish(Publish { exchange, key, mandatory, immediate }));
    }
    if texts.iter().any(|text| std::str::from_utf8(text).is_err()) {
        return Err(Undecodable::Text(Refusal::frame("Malformed UTF-8 in shortstr")));
    }
    let (without_table, table) = match table {
        None => (None, Table::default()),
        Some((range, fields)) => {
            let parts = [&payload[..range.start], &[0; 4], &payload[range.end..]];
            (Some(parts.concat()), Table::read(fields).ok_or(Undecodable::Table)?)
        }
    };
    match parse_class(without_table.as_deref().unwrap_or(payload)) {
        Ok(([], method)) => Ok(Method::Other(method, table)),
        _ => Err(undecodable()),
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
        assert_eq!((frame.kind().unwrap(), frame.channel, &frame.payload[..]), (FrameKind::Body, 7, &b"body"[..]));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_payload_of_exactly_frame_max_passes_and_one_byte_more_is_501() {
        assert!(split(&mut bytes(3, 1, &[0; 100], 0xCE), 100).unwrap().is_some());
        assert_eq!(split(&mut bytes(3, 1, &[0; 101], 0xCE), 100).unwrap_err().code, 501);
    }

    #[test]
    fn what_is_wrong_is_shown_up_to_16_octets_of_it() {
        let shown = |payload: &[u8]| {
            let frame = split(&mut bytes(9, 1, payload, 0xCE), 4096).unwrap().unwrap();
            frame.kind().unwrap_err().shown().into_owned()
        };
        assert_eq!(shown(b""), "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame");
        assert_eq!(shown(&[0, 255]), "FRAME_ERROR - type 9, all octets = <<0,255>>: unknown_frame");
        let text = r#"FRAME_ERROR - type 9, first 16 octets = <<"a \"hare\" and mor">>: unknown_frame"#;
        assert_eq!(shown(b"a \"hare\" and more"), text);
    }

    #[test]
    fn a_frame_too_short_for_its_type_is_501() {
        for (kind, size) in [(1, 3), (2, 11), (8, 1)] {
            let frame = split(&mut bytes(kind, 1, &vec![0; size], 0xCE), 4096).unwrap().unwrap();
            assert_eq!(frame.kind().unwrap_err().code, 501, "{kind}");
        }
    }
}
