use proptest::prelude::*;

use crate::link::sanitizer::{
    content_header::tests::{parsed, payload},
    frames::*,
    method::tests::deliver,
    table::tests::{entry, long, nested},
    *,
};

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &size, payload, &[FRAME_END]].concat()
}

/// The bytes that a reader receives if `bytes` arrive in pieces of these lengths, in turn.
fn read(bytes: &[u8], pieces: &[usize], room: usize, frame_max: u32) -> Vec<u8> {
    read_by(Sanitizer::new(frame_max), bytes, pieces, room)
}

fn read_by(sanitizer: Sanitizer, bytes: &[u8], pieces: &[usize], room: usize) -> Vec<u8> {
    use futures_io::AsyncRead;
    use std::{pin::Pin, task::Context};

    struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);
    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            to: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let piece = *self.1.next().unwrap();
            let length = piece.min(to.len()).min(self.0.len());
            to[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            std::task::Poll::Ready(Ok(length))
        }
    }
    let mut stream = stream::Sanitized::new(Pieces(bytes, pieces.iter().cycle()), sanitizer);
    let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        match Pin::new(&mut stream).poll_read(&mut cx, &mut buffer) {
            std::task::Poll::Ready(Ok(0)) => return all,
            std::task::Poll::Ready(Ok(length)) => all.extend_from_slice(&buffer[..length]),
            other => panic!("{other:?}"),
        }
    }
}

fn read_whole(bytes: &[u8]) -> Vec<u8> {
    read(bytes, &[usize::MAX], 1 << 22, 0)
}

/// The frames of `bytes`: kind, channel and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize;
        assert_eq!(bytes[7 + size], FRAME_END);
        frames.push((bytes[0], u16::from_be_bytes([bytes[1], bytes[2]]), bytes[7..7 + size].to_vec()));
        bytes = &bytes[8 + size..];
    }
    frames
}

fn message(channel: u16, routing_key: &[u8], flags: u16, properties: &[u8], body: &[u8]) -> Vec<u8> {
    let mut header = payload(flags, properties);
    header[4..12].copy_from_slice(&(body.len() as u64).to_be_bytes());
    [frame(METHOD, channel, &deliver(routing_key)), frame(HEADER, channel, &header), frame(BODY, channel, body)]
        .concat()
}

#[test]
fn sound_frames_pass_byte_for_byte() {
    let bytes = [
        message(1, b"k", 0x8000, &entry(b"text/plain", b""), b"body"),
        frame(HEARTBEAT, 0, &[]),
        message(2, b"k", 0, &[], &[7; 100_000]),
    ]
    .concat();
    assert_eq!(read_whole(&bytes), bytes);
}

#[test]
fn a_message_that_cannot_be_read_comes_marked_between_those_that_can() {
    let good = message(1, b"k", 0x8000, &entry(b"text/plain", b""), b"good");
    let bad = message(1, b"k", 0x0400, &entry(b"\xe9", b""), b"bad");
    let read = read_whole(&[good.clone(), bad, good.clone()].concat());
    assert!(read.starts_with(&good) && read.ends_with(&good));
    let frames = frames(&read);
    assert_eq!(frames.len(), 9);
    let (properties, what) = taken(&parsed(&frames[4].2)).unwrap();
    assert_eq!(what, "correlation_id: not UTF-8");
    assert!(properties.correlation_id().is_none());
    assert_eq!(frames[5].2, b"bad", "its body is whole");
}

#[test]
fn a_bad_routing_key_marks_the_content_header_of_its_own_channel() {
    let bad = frame(METHOD, 1, &deliver(b"\xff"));
    let other = message(2, b"k", 0, &[], b"other");
    let rest = [frame(HEADER, 1, &payload(0, &[])), frame(BODY, 1, b"bad...")].concat();
    let read = read_whole(&[&bad[..], &other, &rest].concat());
    let frames = frames(&read);
    assert!(taken(&parsed(&frames[2].2)).is_none(), "channel 2 has a message of its own");
    assert_eq!(taken(&parsed(&frames[4].2)).unwrap().1, "routing_key: not UTF-8");
    assert_eq!(frames[0].2, deliver(b"?"));
}

#[test]
fn a_method_without_content_forgets_what_its_channel_waited_for() {
    let cancelled = frame(METHOD, 1, &[&[0, 60, 0, 30, 1][..], b"t\0"].concat());
    let bytes = [frame(METHOD, 1, &deliver(b"\xff")), cancelled, message(1, b"k", 0, &[], b"next")].concat();
    let frames = frames(&read_whole(&bytes));
    assert!(frames.iter().filter(|frame| frame.0 == HEADER).all(|(_, _, payload)| taken(&parsed(payload)).is_none()));
}

#[test]
fn a_header_larger_than_the_negotiated_frame_is_shortened_to_it() {
    let tune = frame(METHOD, 0, &[0, 10, 0, 30, 7, 255, 0, 0, 32, 0, 0, 60]);
    let blob = long(b'F', &entry(b"blob", &long(b'S', &[b'b'; 10_000])))[1..].to_vec();
    for (asked, frame_max) in [(0, 8192), (131_072, 8192), (4096, 4096), (1, 4096)] {
        let bytes = [tune.clone(), message(1, b"k", 0x2000, &blob, b"body")].concat();
        let frames = frames(&read(&bytes, &[usize::MAX], 1 << 20, asked));
        assert!(frames[2].2.len() + 8 <= frame_max, "{asked}: {}", frames[2].2.len());
        assert!(taken(&parsed(&frames[2].2)).is_none(), "it can be handled");
    }
}

#[test]
fn a_header_of_any_length_leaves_its_message_and_what_follows() {
    let huge = long(b'F', &entry(b"blob", &long(b'S', &vec![b'b'; 3 << 20])))[1..].to_vec();
    let good = message(1, b"k", 0, &[], b"good");
    let read = read(&[message(1, b"k", 0x2000, &huge, b"bad"), good.clone()].concat(), &[50_000], 1 << 16, 131_072);
    let frames = frames(&read);
    assert_eq!(frames[2].2, b"bad");
    assert!(taken(&parsed(&frames[1].2)).unwrap().1.contains("too long"));
    assert!(read.ends_with(&good));
}

#[test]
fn what_is_no_amqp_is_left_to_lapin() {
    for bytes in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 503 Service Unavailable\r\n\r\n", &[0xff; 40], b"A"] {
        assert_eq!(read_whole(bytes), bytes);
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// Flags and properties: arbitrary bytes, well-formed ones with arbitrary content, or sound ones.
fn properties() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let value = prop_oneof![
        Just(b"V".to_vec()),
        bytes(30).prop_map(|bytes| long(b'S', &bytes)),
        bytes(30).prop_map(|bytes| long(b'F', &bytes)),
        (0..80_usize).prop_map(nested),
        bytes(10),
    ];
    let headers = prop::collection::vec((bytes(5), value), 0..4).prop_map(|entries| {
        let content: Vec<u8> = entries.iter().flat_map(|(name, value)| entry(name, value)).collect();
        (0x2000, long(b'F', &content)[1..].to_vec())
    });
    let texts = (bytes(20), bytes(20)).prop_map(|(one, two)| (0x0480, [entry(&one, b""), entry(&two, b"")].concat()));
    prop_oneof![(any::<u16>(), bytes(60)), headers, texts]
}

proptest! {
    /// With any properties, arriving in any pieces, lapin reads every frame, and every body is whole.
    #[test]
    fn whatever_the_broker_hands_on_lapin_reads_it(
        messages in prop::collection::vec((1..3_u16, bytes(8), properties(), bytes(40)), 1..6),
        pieces in prop::collection::vec(1..200_usize, 1..5),
        room in prop_oneof![1..64_usize, Just(1 << 20)],
    ) {
        let sent: Vec<u8> = messages
            .iter()
            .flat_map(|(channel, key, (flags, properties), body)| message(*channel, key, *flags, properties, body))
            .collect();
        let read = read(&sent, &pieces, room, 0);
        let mut rest = &read[..];
        let mut bodies = Vec::new();
        while !rest.is_empty() {
            let (after, parsed) = amq_protocol::frame::parse_frame(rest).expect("lapin reads it");
            if let amq_protocol::frame::AMQPFrame::Body(_, body) = parsed {
                bodies.push(body);
            }
            rest = after;
        }
        let expected: Vec<_> = messages.iter().map(|(_, _, _, body)| body.clone()).collect();
        prop_assert_eq!(bodies, expected);
    }

    /// Bytes that are not frames do not end the stream, and no more bytes come out than went in.
    #[test]
    fn any_bytes_are_survived(bytes in bytes(400), pieces in prop::collection::vec(1..50_usize, 1..3)) {
        read(&bytes, &pieces, 64, 0);
    }
}

#[test]
fn heartbeats_that_are_off_are_not_proposed_to_lapin_and_nothing_else_of_the_proposal_changes() {
    let tune = |heartbeat: u16| {
        let payload = [&[0, 10, 0, 30, 0x07, 0xff, 0, 2, 0, 0][..], &heartbeat.to_be_bytes()].concat();
        frame(METHOD, 0, &payload)
    };
    for pieces in [1, 5, usize::MAX] {
        assert_eq!(read_by(Sanitizer::new(0).without_heartbeats(), &tune(60), &[pieces], 64), tune(0));
        assert_eq!(read_by(Sanitizer::new(0), &tune(60), &[pieces], 64), tune(60));
    }
}
