//! If a body does not fit its labels, it is refused with an error that names the reason.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fluffle_wire::DecodeErrorKind::{self, *};
use fluffle_wire::{Codec, DecodeError, EncodeError, EncodeErrorKind, Incoming, Wire};
use protos::usgs::{Alert, Quake};

const PROTOBUF: &str = "application/vnd.google.protobuf";

fn decode(content_type: &str, encoding: &str, type_name: &str) -> Result<Quake, DecodeError> {
    let body = Wire::<Quake>::protobuf().encode(&Quake::default()).unwrap().body;
    Wire::protobuf().decode(&Incoming {
        content_type: Some(content_type),
        content_encoding: Some(encoding),
        type_name: Some(type_name),
        headers: None,
        body: &body,
    })
}

fn kind(content_type: &str, encoding: &str, type_name: &str) -> Option<DecodeErrorKind> {
    decode(content_type, encoding, type_name).err().map(|e| e.kind())
}

#[test]
fn a_label_written_another_way_is_the_same_label() {
    for content_type in [
        "application/vnd.google.protobuf",
        "application/vnd.google.protobuf; proto=usgs.v1.Quake",
        "APPLICATION/VND.GOOGLE.PROTOBUF;PROTO=usgs.v1.Quake",
        "application/protobuf ; proto = \"usgs.v1.Quake\" ",
        "application/x-protobuf; charset=utf-8; proto=usgs.v1.Quake",
        "application/x-protobuf; note=\"a;b\"; proto=usgs.v1.Quake",
        "application/x-google-protobuf",
        "Application/Octet-Stream",
        "",
        "  ",
    ] {
        assert_eq!(kind(content_type, "", ""), None, "{content_type:?}");
    }
    for no_compression in
        ["Identity", "binary", "BINARY", "utf-8", "UTF-8", "utf8", "8bit", "7bit", "us-ascii", "ISO-8859-1"]
    {
        assert_eq!(kind("", no_compression, "usgs.v1.Quake"), None, "{no_compression:?}");
    }
    assert_eq!(kind("", " ", " "), None);
}

#[test]
fn a_body_without_labels_is_taken_on_trust() {
    let body = Wire::<Quake>::protobuf().encode(&Quake::default()).unwrap().body;
    assert!(Wire::<Quake>::protobuf().decode(&Incoming::unlabelled(&body)).is_ok());
}

#[test]
fn a_wrong_label_is_refused_by_its_kind() {
    assert_eq!(kind("text/plain", "", ""), Some(ContentType));
    assert_eq!(kind("application/json; proto=usgs.v1.Quake; charset=utf-16", "", ""), Some(ContentType));
    assert_eq!(kind("application/xml; proto=usgs.v1.Quake", "", ""), Some(ContentType));
    assert_eq!(kind("rubbish;;;=\"", "", ""), Some(ContentType));
    assert_eq!(kind("application/protobuf; proto=usgs.v1.Alert", "", ""), Some(TypeName));
    assert_eq!(kind("application/protobuf; proto=USGS.V1.QUAKE", "", ""), Some(TypeName));
    assert_eq!(kind("application/protobuf; proto=\"usgs.v1.Quake", "", ""), Some(TypeName));
    assert_eq!(kind(PROTOBUF, "", "usgs.v1.Alert"), Some(TypeName));
    assert_eq!(kind(PROTOBUF, "deflate", ""), Some(ContentEncoding));
    assert_eq!(kind(PROTOBUF, "gzip, gzip", ""), Some(ContentEncoding));
    assert_eq!(kind("application/protobuf; encoding=delimited", "", ""), Some(Batching));
    assert_eq!(kind("application/protobuf; encoding=chunked", "", ""), Some(Batching));
}

/// A message of this content type, which holds the JSON of an alert.
fn json(content_type: &str) -> (Bytes, Option<&str>) {
    (Bytes::from_static(br#"{"quakeId":"us2000cmy3"}"#), Some(content_type))
}

#[test]
fn json_is_read_beside_protobuf_by_its_label_alone() {
    let wire = Wire::<Alert>::protobuf();
    for label in ["application/json", "Application/JSON; charset=UTF-8", "application/json; proto=usgs.v1.Alert"] {
        let (body, content_type) = json(label);
        let alert = wire.decode(&Incoming { content_type, ..Incoming::unlabelled(&body) }).unwrap();
        assert_eq!(alert.quake_id, "us2000cmy3");
    }
    let (body, _) = json("");
    assert_eq!(wire.decode(&Incoming::unlabelled(&body)).unwrap_err().kind(), Malformed, "nothing is guessed");
    // Well-known types have their descriptors in any program.
    let text = Bytes::from_static(b"\"four\"");
    let labelled = Incoming { content_type: Some("application/json"), ..Incoming::unlabelled(&text) };
    assert_eq!(Wire::<String>::protobuf().decode(&labelled).unwrap(), "four");
}

#[test]
fn a_strict_wire_reads_nothing_but_its_own_format() {
    let (body, content_type) = json("application/json");
    let error = Wire::<Alert>::protobuf().strict().decode(&Incoming { content_type, ..Incoming::unlabelled(&body) });
    assert_eq!(error.unwrap_err().kind(), ContentType);
}

#[test]
fn an_answer_is_in_the_format_of_the_request_if_the_wire_knows_it() {
    let wire = Wire::<Alert>::protobuf();
    let alert = Alert { quake_id: "q".into(), ..Alert::default() };
    let like = |content_type| wire.encode_like(content_type, &alert).unwrap();
    assert_eq!(&*like(Some("application/json; charset=utf-8")).content_type, "application/json; proto=usgs.v1.Alert");
    assert_eq!(like(Some("application/json")).body, br#"{"quakeId":"q"}"#.as_slice());
    for unknown in [None, Some(""), Some("text/plain"), Some("application/x-protobuf")] {
        assert_eq!(like(unknown), wire.encode(&alert).unwrap());
    }
}

#[test]
fn a_batch_of_json_is_read_beside_protobuf() {
    let alerts = ["a", "b"].map(|id| Alert { quake_id: id.into(), ..Alert::default() });
    let sent = Wire::<Alert>::json().encode_batch(&alerts).unwrap();
    let wire = Wire::<Alert>::protobuf();
    let batch = wire.decode_batch(&sent.incoming()).unwrap();
    assert_eq!(batch.iter().collect::<Result<Vec<_>, _>>().unwrap(), alerts);
    let first = batch.raw(0).unwrap();
    assert_eq!(wire.decode_item(&sent.incoming(), &first).unwrap(), alerts[0]);
    assert_eq!(wire.item_content_type(&sent.incoming()), "application/json; proto=usgs.v1.Alert");
}

#[test]
fn one_message_is_not_a_batch_unless_the_caller_alone_says_so() {
    let wire = Wire::<Quake>::protobuf();
    let single = wire.encode(&Quake::default()).unwrap();
    assert_eq!(wire.decode_batch(&single.incoming()).unwrap_err().kind(), Batching);
    let unknown = Incoming { content_type: Some("application/protobuf; encoding=chunked"), ..single.incoming() };
    assert_eq!(wire.decode_batch(&unknown).unwrap_err().kind(), Batching);
    assert_eq!(wire.decode_batch(&Incoming::unlabelled(&single.body)).unwrap().len(), 0);
}

#[test]
fn an_error_names_what_was_found_and_what_was_expected() {
    let error = decode("text/plain", "", "").unwrap_err().to_string();
    assert!(error.contains("text/plain") && error.contains(PROTOBUF), "{error}");
    let error = decode(PROTOBUF, "", "usgs.v1.Alert").unwrap_err().to_string();
    assert!(error.contains("usgs.v1.Alert") && error.contains("usgs.v1.Quake"), "{error}");
    let error = decode(PROTOBUF, "br", "").unwrap_err().to_string();
    assert!(error.contains("br") && error.contains("gzip"), "{error}");
}

#[test]
fn debug_shows_how_long_a_body_is_and_not_what_is_in_it() {
    let message = Quake { place: "a secret place".into(), ..Quake::default() };
    let wire = Wire::json();
    let sent = wire.encode(&message).unwrap();
    let batch = wire.encode_batch([&message]).unwrap();
    let opened = wire.decode_batch(&batch.incoming()).unwrap();
    let mut filling = wire.batch();
    filling.push(&message).unwrap();
    for shown in [
        format!("{sent:?}"),
        format!("{:?}", sent.incoming()),
        format!("{opened:?}"),
        format!("{:?}", opened.iter()),
        format!("{filling:?}"),
    ] {
        assert!(shown.contains("bytes: ") && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_label_of_a_megabyte_does_not_make_an_error_of_a_megabyte() {
    let label = "é".repeat(500_000);
    for error in [decode(&label, "", ""), decode("", &label, ""), decode("", "", &label)] {
        assert!(error.unwrap_err().to_string().len() < 500);
    }
}

#[test]
fn a_queue_of_several_types_is_told_apart_by_type_or_else_by_content_type() {
    let body = Bytes::new();
    let declared = |content_type, type_name| {
        Incoming { content_type, content_encoding: None, type_name, headers: None, body: &body }.declared_type()
    };
    let alert = Some("application/protobuf; proto=usgs.v1.Alert");
    assert_eq!(declared(alert, Some("usgs.v1.Quake")), Some("usgs.v1.Quake"));
    assert_eq!(declared(alert, Some("")), Some("usgs.v1.Alert"));
    assert_eq!(declared(Some("application/protobuf"), None), None);
    assert_eq!(declared(None, None), None);

    // If two labels contradict each other, the wire of one of the two types gets the body and refuses it.
    let sent = Wire::<Alert>::protobuf().encode(&Alert::default()).unwrap();
    let lying = Incoming { type_name: Some("usgs.v1.Quake"), ..sent.incoming() };
    assert_eq!(Wire::<Quake>::protobuf().decode(&lying).unwrap_err().kind(), TypeName);
}

#[test]
fn quotes_hide_semicolons_and_the_first_of_two_parameters_counts() {
    let found = fluffle_wire::ContentType::parse("a/b; x=\"1;y=2\"; y=3; y=4; z");
    assert_eq!(found.parameter("x"), Some("1;y=2"));
    assert_eq!(found.parameter("y"), Some("3"));
    assert_eq!(found.parameter("z"), None);
    assert!(found.is("A/B"));
}

#[test]
fn a_name_too_long_for_amqp_is_refused_before_sending() {
    struct LongName;
    impl Codec<u8> for LongName {
        fn media_type(&self) -> &str {
            "text/plain"
        }
        fn type_name(&self) -> String {
            "x".repeat(250)
        }
        fn encode(&self, _: &u8, _: &mut Vec<u8>) -> Result<(), EncodeError> {
            Ok(())
        }
        fn decode(&self, _: &Bytes) -> Result<u8, DecodeError> {
            Ok(0)
        }
    }
    assert_eq!(Wire::new(LongName).encode(&1).unwrap_err().kind(), EncodeErrorKind::LabelTooLong);
}
