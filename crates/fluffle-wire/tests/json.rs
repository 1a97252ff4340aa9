//! JSON of proto3 and of serde: charsets, byte order marks, errors that do not quote the body, and answers in kind.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fluffle_wire::DecodeErrorKind::{ContentType, Malformed};
use fluffle_wire::{DecodeError, Incoming, SerdeJson, Wire};
use protos::usgs::Alert;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    quake_id: String,
}

const BODY: &str = r#"{"quakeId":"Zoë"}"#;

/// What each codec of JSON makes of this body: proto3 alone, proto3 beside Protobuf, and serde.
fn decode(content_type: Option<&str>, body: impl Into<Bytes>) -> [Result<String, DecodeError>; 3] {
    let body = body.into();
    let incoming = Incoming { content_type, ..Incoming::unlabelled(&body) };
    let beside = Wire::<Alert>::protobuf()
        .decode(&Incoming { content_type: content_type.or(Some("application/json")), ..incoming });
    [
        Wire::<Alert>::json().decode(&incoming).map(|alert| alert.quake_id),
        beside.map(|alert| alert.quake_id),
        Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").decode(&incoming).map(|order| order.quake_id),
    ]
}

fn said(error: &DecodeError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

#[test]
fn utf_8_is_read_under_each_of_its_names_and_with_a_byte_order_mark() {
    let labels = [
        "application/json",
        "application/json;charset=utf-8",
        "Application/JSON; Charset=\"UTF-8\"",
        "application/json; charset=utf8",
        "application/json; charset=us-ascii; version=1",
    ];
    for label in labels.map(Some).into_iter().chain([None]) {
        for body in [BODY.to_owned(), format!("\u{FEFF}{BODY}")] {
            for read in decode(label, body) {
                assert_eq!(read.unwrap(), "Zoë", "{label:?}");
            }
        }
    }
}

#[test]
fn another_charset_is_refused_by_its_label_and_utf_16_by_its_bytes() {
    for charset in ["utf-16", "UTF-16LE", "latin1", "iso-8859-1", "windows-1252"] {
        for refused in decode(Some(&format!("application/json; charset={charset}")), BODY) {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ContentType);
            assert!(said(&error).contains(charset) && said(&error).contains("UTF-8"), "{}", said(&error));
        }
    }
    let units: Vec<u16> = BODY.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let marked = [&b"\xFE\xFF"[..], &units.iter().flat_map(|unit| unit.to_be_bytes()).collect::<Vec<_>>()].concat();
    for body in [little, marked] {
        for refused in decode(None, body) {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), Malformed);
            assert!(said(&error).contains("UTF-16"), "{}", said(&error));
        }
    }
    for refused in decode(None, &b"{\"quakeId\":\"Zo\xEB\"}"[..]) {
        assert_eq!(refused.unwrap_err().kind(), Malformed);
    }
}

#[test]
fn an_error_is_short_and_does_not_quote_what_was_read() {
    let secret = "4929123412341234567812345678";
    for body in [
        format!("\"{secret}\""),
        format!("{{\"quakeId\": {{\"{secret}\": 1}}}}"),
        format!("{{\"quakeId\": [\"{secret}\"]}}"),
        format!("{{\"quakeId\": \"{}\" {secret}", "x".repeat(100_000)),
        format!("[{}", "[".repeat(100_000)),
        format!("{{\"quakeId\": {}", "{\"a\":".repeat(10_000)),
        String::new(),
    ] {
        for refused in decode(None, body) {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), Malformed);
            assert!(said(&error).len() < 500 && !said(&error).contains(secret), "{}", said(&error));
        }
    }
}

#[test]
fn json_is_not_read_from_bytes_without_a_charset_or_from_an_unknown_format() {
    for label in ["application/octet-stream", "application/protobuf", "text/json", "application/vnd.shop+json"] {
        let [json, _, serde] = decode(Some(label), BODY);
        for refused in [json, serde] {
            assert_eq!(refused.unwrap_err().kind(), ContentType, "{label}");
        }
    }
}

#[test]
fn an_answer_is_in_the_format_of_the_request_if_it_is_read_and_else_in_its_own() {
    let alert = Alert { quake_id: "q".into(), ..Alert::default() };
    let wire = Wire::<Alert>::protobuf();
    let (protobuf, json) = (wire.encode(&alert).unwrap(), Wire::json().encode(&alert).unwrap());
    for (asked, answer) in [
        (None, &protobuf),
        (Some(""), &protobuf),
        (Some("application/x-protobuf"), &protobuf),
        (Some("application/json"), &json),
        (Some("Application/JSON; charset=utf-8"), &json),
        (Some("application/cloudevents+json"), &protobuf),
        (Some("text/html"), &protobuf),
    ] {
        assert_eq!(&wire.encode_like(asked, &alert).unwrap(), answer, "{asked:?}");
    }
    assert_eq!(wire.strict().encode_like(Some("application/json"), &alert).unwrap(), protobuf);
    let order = OrderPlaced { quake_id: "q".into() };
    let serde = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced");
    assert_eq!(serde.encode_like(None, &order).unwrap(), serde.encode(&order).unwrap());
}

#[test]
fn a_type_of_serde_is_written_with_its_labels_alone_and_in_batches() {
    let wire = Wire::<OrderPlaced>::new(SerdeJson::new("shop.OrderPlaced"));
    let orders: Vec<OrderPlaced> = ["a", "b"].map(|id| OrderPlaced { quake_id: id.into() }).into();
    let sent = wire.encode_batch(&orders).unwrap();
    assert_eq!(&*sent.content_type, "application/json; proto=shop.OrderPlaced; encoding=delimited");
    let items: Result<Vec<_>, _> = wire.decode_batch(&sent.incoming()).unwrap().iter().collect();
    assert_eq!(items.unwrap(), orders);
    let other = Incoming { type_name: Some("shop.OrderLost"), content_type: None, ..sent.incoming() };
    assert!(wire.decode(&other).unwrap_err().to_string().contains("shop.OrderLost"));
}
