//! The guarantees of each format about fields, numbers and depth.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fluffle_wire::{DecodeErrorKind, EncodeErrorKind, Incoming, Wire};
use prost::Message;
use prost_types::Timestamp;
use protos::wiretest::{Colour, Kinds, OldKinds};

fn json(message: &Kinds) -> String {
    String::from_utf8(Wire::json().encode(message).unwrap().body.to_vec()).unwrap()
}

fn from_json(text: &str) -> Result<Kinds, DecodeErrorKind> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    Wire::<Kinds>::json().decode(&Incoming::unlabelled(&body)).map_err(|e| e.kind())
}

/// A message nested `depth` levels deep.
fn nested(depth: usize) -> Kinds {
    (1..depth).fold(Kinds::default(), |inner, _| Kinds { inner: Some(Box::new(inner)), ..Kinds::default() })
}

#[test]
fn a_field_the_reader_does_not_know_is_dropped_by_protobuf_and_kept_in_the_bytes() {
    let sent = Kinds { number: 1.5, text: "new".into(), ..Kinds::default() }.encode_to_vec();
    let body = Bytes::from(sent.clone());
    let old: OldKinds = Wire::protobuf().decode(&Incoming::unlabelled(&body)).unwrap();
    assert_eq!(old.number, 1.5);
    assert!(old.encode_to_vec().len() < sent.len(), "encoding again does not bring it back");
    assert_eq!(body, sent, "passing on the body does");
}

#[test]
fn a_number_the_enumeration_does_not_know_is_kept() {
    let message = Kinds { colour: 77, ..Kinds::default() };
    for wire in [Wire::protobuf(), Wire::json()] {
        let sent = wire.encode(&message).unwrap();
        assert_eq!(wire.decode(&sent.incoming()).unwrap().colour, 77);
    }
}

#[test]
fn messages_nest_100_deep_in_the_outermost_and_no_deeper() {
    let wire = Wire::protobuf();
    let decode = |depth| wire.decode(&wire.encode(&nested(depth)).unwrap().incoming());
    assert_eq!(decode(101).unwrap(), nested(101));
    assert_eq!(decode(102).unwrap_err().kind(), DecodeErrorKind::Malformed);
}

#[test]
fn json_too_deep_is_an_error_on_both_sides() {
    assert_eq!(Wire::json().encode(&nested(200)).unwrap_err().kind(), EncodeErrorKind::Unrepresentable);
    let text = |depth: usize| format!("{}{{}}{}", r#"{"inner":"#.repeat(depth), "}".repeat(depth));
    assert_eq!(from_json(&text(100)).unwrap(), nested(101));
    for depth in [101, 100_000] {
        assert_eq!(from_json(&text(depth)), Err(DecodeErrorKind::Malformed));
    }
}

#[test]
fn json_is_proto3_json() {
    let message = Kinds {
        number: f64::NAN,
        small_number: f32::NEG_INFINITY,
        signed: i64::MIN,
        blob: vec![0xfb, 0xff],
        colour: Colour::Green as i32,
        at: Some(Timestamp { seconds: 1_517_966_773, nanos: 840_000_000 }),
        maybe: Some(String::new()),
        ..Kinds::default()
    };
    let text = json(&message);
    for part in [
        r#""number":"NaN""#,
        r#""smallNumber":"-Infinity""#,
        r#""signed":"-9223372036854775808""#,
        r#""blob":"+/8=""#,
        r#""colour":"COLOUR_GREEN""#,
        r#""at":"2018-02-07T01:26:13.840Z""#,
        r#""maybe":"""#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("flag"), "a field at its default is left out: {text}");
    let back = from_json(&text).unwrap();
    assert!(back.number.is_nan());
    assert_eq!(Kinds { number: 0.0, ..back }, Kinds { number: 0.0, ..message });
}

#[test]
fn json_gives_back_every_bit_of_a_number() {
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..2_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = f64::from_bits(bits);
        if !number.is_nan() {
            let message = Kinds { number, small_number: number as f32, ..Kinds::default() };
            assert_eq!(from_json(&json(&message)), Ok(message));
        }
    }
}

#[test]
fn json_is_read_more_widely_than_it_is_written() {
    let expected = Kinds { small_number: 1.0, signed: 5, colour: 2, ..Kinds::default() };
    assert_eq!(from_json(r#" {"small_number": "1.0", "signed": 5, "colour": 2, "text": null} "#), Ok(expected));
}

#[test]
fn json_that_is_not_this_message_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        r#"{"unknown":1}"#,
        r#"{"signed":"x"}"#,
        r#"{"flag":1}"#,
        "{} {}",
        "{}x",
        r#"{"at":"yesterday"}"#,
    ] {
        assert_eq!(from_json(text), Err(DecodeErrorKind::Malformed), "{text}");
    }
}

#[test]
fn a_long_unknown_name_in_json_does_not_make_a_long_error() {
    let body = Bytes::from(format!(r#"{{"{}":1}}"#, "x".repeat(1_000_000)));
    let error = Wire::<Kinds>::json().decode(&Incoming::unlabelled(&body)).unwrap_err();
    assert!(fluffle_wire::headers::error_chain(&error).len() < 1_000);
}

#[test]
fn a_malformed_body_names_its_type_and_its_cause() {
    let body = Bytes::from_static(&[0x0a, 0x09]);
    let error = Wire::<Kinds>::protobuf().decode(&Incoming::unlabelled(&body)).unwrap_err();
    assert!(error.to_string().contains("fluffle.wiretest.v1.Kinds"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_bytes_field_is_a_part_of_the_body_it_came_in_and_not_a_copy() {
    #[derive(Clone, PartialEq, Message)]
    struct Picture {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(bytes = "bytes", tag = "2")]
        pixels: Bytes,
        #[prost(bytes = "vec", tag = "3")]
        checksum: Vec<u8>,
    }
    impl prost::Name for Picture {
        const NAME: &'static str = "Picture";
        const PACKAGE: &'static str = "test";
    }
    let picture = Picture { name: "n".into(), pixels: Bytes::from(vec![7; 1000]), checksum: vec![1, 2, 3] };
    let wire = Wire::<Picture>::protobuf();
    let is_part = |part: &Bytes, whole: &Bytes| whole.as_ptr_range().contains(&part.as_ptr());

    let single = wire.encode(&picture).unwrap();
    let decoded = wire.decode(&single.incoming()).unwrap();
    assert_eq!(decoded, picture);
    assert!(is_part(&decoded.pixels, &single.body));

    let batch = wire.encode_batch(&[picture.clone(), picture.clone()]).unwrap();
    for item in &wire.decode_batch(&batch.incoming()).unwrap() {
        let item = item.unwrap();
        assert_eq!(item, picture);
        assert!(is_part(&item.pixels, &batch.body));
    }
    let cut_short = single.body.slice(..single.body.len() - 4);
    let error = wire.decode(&Incoming { body: &cut_short, ..single.incoming() }).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::Malformed);
}
