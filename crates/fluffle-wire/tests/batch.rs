//! Many messages in one body: a full batch is reported in time, and a damaged item costs only itself.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Gzip, Incoming, Limits, Wire};
use protos::usgs::Quake;

fn quake(id: &str) -> Quake {
    Quake { id: id.into(), ..Quake::default() }
}

fn quakes(count: usize) -> Vec<Quake> {
    (0..count).map(|i| quake(&format!("q{i}"))).collect()
}

fn ids(wire: &Wire<Quake>, body: Vec<u8>) -> Vec<Result<String, DecodeErrorKind>> {
    let body = Bytes::from(body);
    let batch = wire.decode_batch(&Incoming::unlabelled(&body)).unwrap();
    let items: Vec<_> = batch.iter().map(|item| item.map(|q| q.id).map_err(|e| e.kind())).collect();
    assert_eq!(items.len(), batch.len(), "the count is known beforehand");
    items
}

#[test]
fn a_batch_comes_back_in_order_with_and_without_gzip_in_both_formats() {
    let sent = quakes(500);
    for wire in [Wire::protobuf(), Wire::json(), Wire::protobuf().gzip(Gzip::on()), Wire::json().gzip(Gzip::on())] {
        let encoded = wire.encode_batch(&sent).unwrap();
        assert_eq!(encoded.items, 500);
        assert!(encoded.incoming().is_batch());
        let batch = wire.decode_batch(&encoded.incoming()).unwrap();
        assert_eq!(batch.iter().len(), 500);
        assert_eq!(batch.iter().collect::<Result<Vec<_>, _>>().unwrap(), sent);
    }
}

#[test]
fn an_empty_batch_is_a_batch() {
    let wire = Wire::<Quake>::protobuf();
    let encoded = wire.encode_batch([]).unwrap();
    assert_eq!((encoded.body.len(), encoded.items), (0, 0));
    assert!(wire.decode_batch(&encoded.incoming()).unwrap().is_empty());
}

#[test]
fn an_item_that_does_not_decode_costs_only_itself() {
    let wire = Wire::protobuf();
    // Field 1 (a string) is announced with 9 bytes, but none follow.
    let body = [&b"\x04\x0a\x02q0"[..], b"\x02\x0a\x09", b"\x04\x0a\x02q2"].concat();
    assert_eq!(ids(&wire, body.clone()), [Ok("q0".into()), Err(DecodeErrorKind::Malformed), Ok("q2".into())]);

    let body = Bytes::from(body);
    let batch = wire.decode_batch(&Incoming::unlabelled(&body)).unwrap();
    let error = batch.iter().nth(1).unwrap().unwrap_err();
    assert!(error.to_string().contains("item 1 of the batch"), "{error}");
    assert_eq!(batch.raw(1).unwrap(), &b"\x0a\x09"[..]);
    assert_eq!(batch.raw(3), None);
}

#[test]
fn a_damaged_length_ends_the_batch_and_what_stood_before_stands() {
    let wire = Wire::protobuf();
    let good = b"\x04\x0a\x02q0";
    let endless = [0xff_u8; 11];
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for damage in [&b"\x05\x0a\x02q1"[..], b"\x80", b"\xff\xff", &endless, &huge] {
        let body = [good, damage].concat();
        assert_eq!(ids(&wire, body.clone()), [Ok("q0".into()), Err(DecodeErrorKind::Framing)], "{damage:?}");
        let body = Bytes::from(body);
        assert_eq!(wire.decode_batch(&Incoming::unlabelled(&body)).unwrap().raw(1), None);
    }
}

#[test]
fn more_items_than_the_limit_are_refused_before_the_first_is_decoded() {
    let wire = Wire::<Quake>::protobuf().limits(Limits { batch_items: 3, ..Limits::default() });
    let body = Bytes::from_static(&[0, 0, 0]);
    assert_eq!(wire.decode_batch(&Incoming::unlabelled(&body)).unwrap().len(), 3);
    let body = Bytes::from_static(&[0, 0, 0, 0]);
    let error = wire.decode_batch(&Incoming::unlabelled(&body)).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::TooManyItems);
}

#[test]
fn a_full_batch_says_so_and_keeps_what_it_has() {
    let by_count = Limits { batch_items: 2, ..Limits::default() };
    let by_bytes = Limits { encoded: 10, ..Limits::default() };
    let unpacked = Limits { decompressed: 10, ..Limits::default() };
    for (limits, gzip) in [(by_count, Gzip::Off), (by_bytes, Gzip::Off), (by_bytes, Gzip::on()), (unpacked, Gzip::on())]
    {
        let wire = Wire::protobuf().limits(limits).gzip(gzip);
        let mut batch = wire.batch();
        batch.push(&quake("q0")).unwrap();
        batch.push(&quake("q1")).unwrap();
        assert_eq!((batch.len(), batch.bytes()), (2, 10));
        assert_eq!(batch.push(&quake("q2")).unwrap_err().kind(), EncodeErrorKind::BatchFull);
        assert_eq!((batch.len(), batch.bytes()), (2, 10));
    }
}

#[test]
fn a_finished_batch_leaves_an_empty_one() {
    let wire = Wire::protobuf();
    let mut batch = wire.batch();
    batch.push(&quake("q0")).unwrap();
    assert_eq!(batch.finish().unwrap().items, 1);
    assert!(batch.is_empty());
    batch.push(&quake("q1")).unwrap();
    assert_eq!(ids(&wire, batch.finish().unwrap().body.into()), [Ok("q1".into())]);
}

#[test]
fn a_batch_of_one_becomes_the_message_itself_if_that_is_asked_for() {
    // The longer one has a length of two bytes.
    for text in ["q", &"q".repeat(200)] {
        for wire in [Wire::protobuf(), Wire::json(), Wire::protobuf().gzip(Gzip::on())] {
            let mut batch = wire.batch();
            batch.push(&quake(text)).unwrap();
            assert_eq!(batch.seal_compact().unwrap(), wire.encode(&quake(text)).unwrap());
        }
    }
    let wire = Wire::protobuf();
    for count in [0, 2] {
        let mut batch = wire.batch();
        quakes(count).iter().for_each(|quake| batch.push(quake).unwrap());
        assert_eq!(batch.seal_compact().unwrap(), wire.encode_batch(&quakes(count)).unwrap());
    }
}

#[test]
fn a_message_that_would_not_even_fit_alone_is_too_large_not_a_full_batch() {
    let wire = Wire::protobuf().limits(Limits { encoded: 10, ..Limits::default() });
    assert_eq!(wire.batch().push(&quake("0123456789")).unwrap_err().kind(), EncodeErrorKind::TooLarge);
}

#[test]
fn an_item_that_cannot_be_encoded_is_named_and_leaves_no_trace() {
    let wire = Wire::new(Fussy { announce: true });
    let mut batch = wire.batch();
    batch.push(&5).unwrap();
    assert_eq!(batch.push(&0).unwrap_err().kind(), EncodeErrorKind::Unrepresentable);
    batch.push(&6).unwrap();
    assert_eq!(batch.finish().unwrap().body, &[1, 5, 1, 6][..]);

    let error = wire.encode_batch(&[5, 0]).unwrap_err();
    assert!(error.to_string().contains("item 1 of the batch"), "{error}");

    let mut batch = Wire::new(Fussy { announce: false }).batch();
    batch.push(&5).unwrap();
    assert!(batch.push(&0).is_err());
    assert_eq!(batch.finish().unwrap().body, &[1, 5][..]);
}

#[test]
fn a_codec_that_announces_a_wrong_length_cannot_break_the_framing() {
    let mut batch = Wire::new(Fussy { announce: true }).batch();
    batch.push(&5).unwrap();
    assert_eq!(batch.push(&9).unwrap_err().kind(), EncodeErrorKind::Unrepresentable);
    assert_eq!(batch.finish().unwrap().body, &[1, 5][..]);
}

/// A codec with one byte for each message. It fails half-way through 0, and writes 9 twice.
struct Fussy {
    announce: bool,
}

impl Codec<u8> for Fussy {
    fn media_type(&self) -> &str {
        "application/octet-stream"
    }
    fn type_name(&self) -> String {
        "test.Fussy".into()
    }
    fn encoded_len(&self, _: &u8) -> Option<usize> {
        self.announce.then_some(1)
    }
    fn encode(&self, message: &u8, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        into.push(*message);
        match message {
            0 => Err(EncodeError::unrepresentable("test.Fussy", "zero")),
            9 => {
                into.push(9);
                Ok(())
            }
            _ => Ok(()),
        }
    }
    fn decode(&self, bytes: &Bytes) -> Result<u8, DecodeError> {
        bytes.first().copied().ok_or_else(|| DecodeError::malformed("test.Fussy", "empty"))
    }
}

#[test]
fn a_batch_kept_small_is_full_early_and_takes_what_is_larger_alone() {
    let wire = Wire::protobuf();
    // Each of these messages takes 5 bytes, its length included.
    let mut batch = wire.batch().at_most(12, 3);
    for id in ["q0", "q1"] {
        batch.push(&quake(id)).unwrap();
    }
    assert_eq!(batch.push(&quake("q2")).unwrap_err().kind(), EncodeErrorKind::BatchFull);
    assert_eq!(batch.finish().unwrap().items, 2);
    for _ in 0..3 {
        assert!(!batch.is_full());
        batch.push(&Quake::default()).unwrap();
    }
    assert!(batch.is_full(), "by count");
    assert_eq!(batch.push(&Quake::default()).unwrap_err().kind(), EncodeErrorKind::BatchFull);
    batch.finish().unwrap();
    batch.push(&quake("larger than the whole")).unwrap();
    assert!(batch.is_full(), "by size");
    assert_eq!(batch.push(&quake("")).unwrap_err().kind(), EncodeErrorKind::BatchFull);
    assert_eq!(batch.finish().unwrap().items, 1);
}

#[test]
fn a_batch_of_several_types_without_the_types_of_all_its_items_is_refused() {
    struct Named<'a>(Option<&'a str>);
    impl fluffle_wire::Headers for Named<'_> {
        fn header(&self, name: &str) -> Option<fluffle_wire::headers::HeaderValue<'_>> {
            self.0.filter(|_| name == fluffle_wire::headers::ITEM_TYPES).map(fluffle_wire::headers::HeaderValue::Str)
        }
    }
    let wire = Wire::<Quake>::protobuf();
    let sent = wire.encode_batch(&[Quake::default(), Quake::default()]).unwrap();
    let typed = "application/vnd.google.protobuf; encoding=typed";
    let open = |types| {
        let headers = Named(types);
        let incoming =
            Incoming { content_type: Some(typed), type_name: None, headers: Some(&headers), ..sent.incoming() };
        let kinds = |batch: fluffle_wire::Batch<Quake>| batch.iter().map(|item| item.err().map(|e| e.kind())).collect();
        wire.decode_batch(&incoming).map(kinds).map_err(|e| e.kind())
    };
    let (good, other) = (None, Some(DecodeErrorKind::TypeName));
    let expected: Result<Vec<_>, _> = Ok(vec![good, other]);
    assert_eq!(open(Some("1*usgs.v1.Quake 1*usgs.v1.Alert")), expected);
    for lacking in [None, Some(""), Some("1*usgs.v1.Quake"), Some("1*usgs.v1.Quake x 1*usgs.v1.Quake")] {
        assert_eq!(open(lacking), Err(DecodeErrorKind::Batching), "{lacking:?}");
    }
}
