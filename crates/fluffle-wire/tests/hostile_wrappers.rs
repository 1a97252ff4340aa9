//! Any bytes in the formats of others give a value or a typed error: no panic, no more memory than a small multiple of
//! the body, and no error that is long or holds the body.
//!
//! This program has only one test, because it counts the allocations of the whole program.
#![allow(clippy::unwrap_used)]

mod others;

use std::{cell::Cell, io::Write};

use flate2::{Compression, write::GzEncoder};
use fluffle_wire::wrappers::{Celery, CloudEvents, Dapr, MassTransit, SpringAmqp};
use fluffle_wire::{DecodeErrorKind, Limits, Wire, Wrapper};
use others::{Message, all};
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use protos::wiretest::Kinds;
use serde::{Deserialize, Serialize};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LIMITS: Limits = Limits { encoded: 64 * 1024, decompressed: 256 * 1024, ratio: 100, batch_items: 1_000 };

/// The most memory that a wrapper takes for each byte of the body: the nesting that a parser notes, and the message
/// once more if it is base64 or text with escapes. A parser's buffer may be twice the size of what is in it.
const ENVELOPE: usize = 4;

/// As in `hostile.rs`: to how many bytes one byte of a body may grow in a decoded message.
const GROWTH: usize = 60;

/// As in `hostile.rs`: the most memory to unpack a body that says it is compressed.
const UNPACKED: usize = LIMITS.decompressed * 3 / 2 + 128 * 1024;

/// Names, small buffers and errors.
const FREE: usize = 16 * 1024;

/// In each body that has a place for it. Longer than any quotation.
const SECRET: &str = "a-secret-that-is-longer-than-what-an-error-may-quote";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    order_id: String,
    cents: u64,
    note: String,
    #[serde(default)]
    lines: Vec<OrderPlaced>,
}

const LABELS: [&str; 14] = [
    "application/cloudevents+json",
    "application/cloudevents+json; charset=utf-8",
    "application/cloudevents-batch+json",
    "application/cloudevents+avro",
    "application/vnd.masstransit+json",
    "application/vnd.masstransit+bson",
    "application/x-java-serialized-object",
    "application/x-python-serialize",
    "application/x-msgpack",
    "application/json",
    "application/json; charset=utf-16",
    "application/octet-stream",
    "text/plain",
    "",
];

/// A part of JSON in place of another one: of a wrong type, doubled, too deep, too long, in another charset, cut off.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let deep =
        (select(vec!["[", "{\"a\":", "[[{\"data\":"]), 1_usize..5_000).prop_map(|(open, times)| open.repeat(times));
    let closed = (1_usize..20_000).prop_map(|times| format!("{}{}", "[".repeat(times), "]".repeat(times)));
    let long = (select(vec!["x", "\\u00e9", "\\\"", "é"]), 1_usize..10_000)
        .prop_map(|(part, times)| format!("\"{}\"", part.repeat(times)));
    let many = (select(vec!["\"urn:message:A:B\"", "{}", "0", "null"]), 1_usize..5_000)
        .prop_map(|(part, times)| format!("[{}]", vec![part; times].join(",")));
    let small = select(vec![
        "null",
        "true",
        "-1e999",
        "1e400",
        "18446744073709551616",
        "\"\"",
        "[]",
        "{}",
        "\"\\ud800\"",
        "\"AA==\"",
        "[null]",
        "",
    ]);
    let text = prop_oneof![4 => small.prop_map(str::to_owned), 1 => deep, 1 => closed, 1 => long, 1 => many];
    prop_oneof![
        8 => text.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => Just(SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        1 => Just(b"\"\xE9\xFF\"".to_vec()),
    ]
}

/// Where a value of the JSON begins, and where it ends if it is no object and no array.
fn values(body: &[u8]) -> Vec<(usize, usize)> {
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']');
    let starts = (1..body.len()).filter(|at| matches!(body[at - 1], b':' | b'[') && !body[*at].is_ascii_digit());
    starts.map(|at| (at, at + body[at..].iter().position(is_end).unwrap_or(body.len() - at))).collect()
}

#[derive(Clone, Debug)]
enum Change {
    /// Puts this in place of a value.
    Value(Index, Vec<u8>),
    /// Has a part of the body twice.
    Double(Index, Index),
    Byte(Index, u8),
    Cut(Index),
    Whole(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any::<Index>(), json()).prop_map(|(at, value)| Change::Value(at, value)),
        2 => any::<(Index, Index)>().prop_map(|(from, to)| Change::Double(from, to)),
        2 => any::<(Index, u8)>().prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => json().prop_map(Change::Whole),
        1 => vec(any::<u8>(), 0..300).prop_map(Change::Whole),
    ]
}

fn apply(mut body: Vec<u8>, change: Change) -> Vec<u8> {
    match change {
        Change::Whole(other) => return other,
        _ if body.is_empty() => {}
        Change::Value(at, value) => {
            let values = values(&body);
            if !values.is_empty() {
                let (start, end) = *at.get(&values);
                body.splice(start..end, value);
            }
        }
        Change::Double(from, to) => {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            let part = body[from.min(to)..from.max(to)].to_vec();
            body.splice(from.min(to)..from.min(to), part);
        }
        Change::Byte(at, byte) => {
            let at = at.index(body.len());
            body[at] = byte;
        }
        Change::Cut(at) => body.truncate(at.index(body.len())),
    }
    body
}

/// A change of what is beside the body.
#[derive(Clone, Debug)]
enum Beside {
    WithoutHeader(usize),
    Header(&'static str, String),
    ContentType(Option<&'static str>),
    Encoding(Option<&'static str>),
    Type(Option<String>),
    /// Compresses the body, and says so.
    Gzip,
    /// Says so without doing it.
    AsIfGzip,
}

fn beside() -> impl Strategy<Value = Beside> {
    let names = select(vec!["__TypeId__", "task", "id", "eta", "specversion", "ce-specversion"]);
    let types = select(vec!["", "shop.OrderPlaced", "com.shop.OrderPlaced", "fluffle.wiretest.v1.Kinds", "ü"]);
    let known = types.prop_map(|name| Some(name.to_owned()));
    let types = prop_oneof![2 => Just(None), 4 => known, 1 => ".{0,2000}".prop_map(Some)];
    prop_oneof![
        3 => (0_usize..8).prop_map(Beside::WithoutHeader),
        2 => (names, ".{0,2000}").prop_map(|(name, value)| Beside::Header(name, value)),
        1 => Just(Beside::ContentType(None)),
        3 => select(LABELS.to_vec()).prop_map(|label| Beside::ContentType(Some(label))),
        2 => select(vec![None, Some(""), Some("utf-8"), Some("ISO-8859-1"), Some("deflate"), Some("base64")])
            .prop_map(Beside::Encoding),
        3 => types.prop_map(Beside::Type),
        3 => Just(Beside::Gzip),
        1 => Just(Beside::AsIfGzip),
    ]
}

fn change_beside(mut message: Message, change: Beside) -> Message {
    match change {
        Beside::WithoutHeader(place) => return message.without_header_at(place),
        Beside::Header(name, value) => return message.with_header(name, &value),
        Beside::ContentType(label) => message.content_type = label.map(str::to_owned),
        Beside::Encoding(label) => message.content_encoding = label.map(str::to_owned),
        Beside::Type(name) => message.type_name = name,
        Beside::AsIfGzip => message.content_encoding = Some("gzip".to_owned()),
        Beside::Gzip => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&message.bytes).unwrap();
            message.bytes = packed.finish().unwrap().into();
            message.content_encoding = Some("gzip".to_owned());
        }
    }
    message
}

/// A message, and how many bytes its body has at most when it is unpacked.
fn hostile() -> impl Strategy<Value = (Message, usize)> {
    let known = all().into_iter().map(|message| {
        let body = String::from_utf8_lossy(&message.bytes).replace("o-17", SECRET);
        if message.bytes.windows(4).any(|part| part == b"o-17") { message.with_body(body) } else { message }
    });
    // Half of them have only their body changed.
    let beside = prop_oneof![1 => Just(Vec::new()), 1 => vec(beside(), 1..4)];
    (select(known.collect::<Vec<_>>()), vec(change(), 0..4), beside).prop_map(|(message, changes, beside)| {
        let body = changes.into_iter().fold(message.bytes.to_vec(), apply);
        let message = message.with_body(body);
        let unpacked = message.bytes.len();
        let message = beside.into_iter().fold(message, change_beside);
        let unpacked = unpacked.max(message.bytes.len());
        (message, unpacked)
    })
}

/// The most memory held at one time while `work` runs, beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (MEMORY.peak_usage().saturating_sub(before), result)
}

fn check_error(error: &fluffle_wire::DecodeError) -> Result<(), TestCaseError> {
    let mut chain = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        chain.push_str(&cause.to_string());
    }
    prop_assert!(chain.len() < 1_500, "an error of {} bytes: {chain}", chain.len());
    prop_assert!(!chain.contains(SECRET), "the error quotes the body: {chain}");
    Ok(())
}

#[test]
fn any_bytes_in_any_wrapper_give_a_message_or_an_error_within_the_limits() {
    let wrappers: [Box<dyn Wrapper>; 8] = [
        Box::new(CloudEvents),
        Box::new(Dapr::new()),
        Box::new(Dapr::raw_payload("application/json")),
        Box::new(MassTransit),
        Box::new(SpringAmqp),
        Box::new(Celery::new()),
        Box::new(Celery::argument()),
        Box::new(Celery::arguments()),
    ];
    let names = ["com.shop.order.placed", "Shop.Orders.OrderPlaced", "com.shop.OrderPlaced", "shop.tasks.place_order"];
    let serde = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").limits(LIMITS);
    let serde = serde.accepts(CloudEvents).accepts(MassTransit).accepts(SpringAmqp).accepts(Celery::new());
    let serde = names.iter().fold(serde.accepts(Dapr::new()), |wire, name| wire.type_alias(*name, "shop.OrderPlaced"));
    let proto = Wire::<Kinds>::protobuf().limits(LIMITS).accepts(CloudEvents).accepts(Dapr::new()).accepts(MassTransit);
    let kinds = "fluffle.wiretest.v1.Kinds";
    let proto =
        names.iter().fold(proto, |wire, name| wire.type_alias(*name, kinds)).type_alias("gov.usgs.alert", kinds);
    // Makes the descriptors, which are built once on first use and must not be counted.
    let _ = Wire::<Kinds>::json().encode(&Kinds::default());
    let _ = proto.decode(&others::message("spring").incoming());

    let (opened, read, unpacked) = (Cell::new(0_usize), Cell::new(0_usize), Cell::new(0_usize));
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&hostile(), |(message, len)| {
            let incoming = message.incoming();
            for wrapper in &wrappers {
                let (used, outcome) = peak(|| wrapper.open(&incoming));
                let allowed = message.bytes.len() * ENVELOPE + FREE;
                prop_assert!(used <= allowed, "{} took {used} bytes, {allowed} allowed", wrapper.name());
                match outcome {
                    Ok(found) => opened.set(opened.get() + usize::from(found.is_some())),
                    Err(error) => {
                        prop_assert_eq!(error.kind(), kind(&error), "{}", error);
                        check_error(&error)?;
                    }
                }
            }
            let is_packed = message.content_encoding.as_deref() == Some("gzip");
            let unpacking = if is_packed { UNPACKED } else { 0 };
            let allowed = len * (ENVELOPE + GROWTH) + unpacking + FREE;
            let (used, outcome) = peak(|| serde.decode(&incoming));
            prop_assert!(used <= allowed, "{used} bytes were used, {allowed} allowed: {outcome:?}");
            match outcome {
                Ok(_) => {
                    read.set(read.get() + 1);
                    unpacked.set(unpacked.get() + usize::from(is_packed));
                }
                Err(error) => check_error(&error)?,
            }
            let (used, outcome) = peak(|| proto.decode(&incoming));
            prop_assert!(used <= allowed, "{used} bytes were used, {allowed} allowed: {outcome:?}");
            if let Err(error) = outcome {
                check_error(&error)?;
            }
            Ok(())
        })
        .unwrap();
    // Not all that is made is rejected at once. About 460 and 90 are not; the bounds are far below that.
    let (opened, read, unpacked) = (opened.get(), read.get(), unpacked.get());
    assert!(opened > 200 && read > 30, "{opened} were opened, {read} were read");
    assert!(unpacked > 0, "no compressed message was read");

    // The bound is tight: base64 is copied, and its text is as long as the body.
    let encoded = "A".repeat(40_000);
    let event = others::message("cloudevents-structured-protobuf").with("CgRvLTE3", &encoded);
    let (used, outcome) = peak(|| CloudEvents.open(&event.incoming()));
    assert_eq!(outcome.unwrap().unwrap().body.len(), 30_000);
    assert!(used >= 30_000, "the memory counter counts nothing");
}

/// What a wrapper may say is wrong: itself, or a charset in the content type.
fn kind(error: &fluffle_wire::DecodeError) -> DecodeErrorKind {
    match error.kind() {
        DecodeErrorKind::ContentType if error.to_string().contains("charset") => DecodeErrorKind::ContentType,
        _ => DecodeErrorKind::Wrapper,
    }
}
