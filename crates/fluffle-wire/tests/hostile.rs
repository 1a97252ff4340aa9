//! Any bytes with any labels give a value or a typed error: no panic, and no more memory than the limits allow.
//!
//! This program has only one test, because it counts the allocations of the whole program.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use bytes::Bytes;
use fluffle_wire::headers::{HeaderValue, ITEM_TYPES};
use fluffle_wire::{DecodeErrorKind, Gzip, Headers, Incoming, Limits, Wire};
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use protos::wiretest::Kinds;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LIMITS: Limits = Limits { encoded: 64 * 1024, decompressed: 256 * 1024, ratio: 100, batch_items: 1_000 };

/// The most memory used before anything is decoded: the unpacked body (while it grows, half of it is held twice), and
/// the window and tables of the inflater.
const UNPACKED: usize = LIMITS.decompressed * 3 / 2 + 128 * 1024;

/// To how many bytes one byte of a body may grow in this schema. The worst case is an empty JSON object in a list.
const GROWTH: usize = 60;

/// The most memory for each byte of the header with the types of a batch's items. The worst case is a run of a name of
/// one letter (`1*a `, four bytes): its place and its name, in a list that may be twice as long as what is in it.
const TYPES: usize = 24;

const KINDS: &str = "fluffle.wiretest.v1.Kinds";

const CONTENT_TYPES: [&str; 11] = [
    "application/vnd.google.protobuf; proto=fluffle.wiretest.v1.Kinds",
    "application/vnd.google.protobuf; proto=fluffle.wiretest.v1.Kinds; encoding=delimited",
    "application/json",
    "application/json; encoding=delimited",
    "application/vnd.google.protobuf; encoding=typed",
    "application/json; encoding=TYPED",
    "application/protobuf; proto=other.Type",
    "application/x-protobuf; encoding=\"",
    ";;=;\"",
    "text/plain",
    "",
];

#[derive(Clone, Debug)]
struct Hostile {
    content_type: Option<String>,
    content_encoding: Option<String>,
    type_name: Option<String>,
    item_types: Option<String>,
    body: Bytes,
}

impl Hostile {
    fn incoming(&self) -> Incoming<'_> {
        Incoming {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            type_name: self.type_name.as_deref(),
            headers: Some(self),
            body: &self.body,
        }
    }
}

impl Headers for Hostile {
    fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        self.item_types.as_deref().filter(|_| name == ITEM_TYPES).map(HeaderValue::Str)
    }
}

/// What a header says of the types of a batch's items: right, too few or too many, and counts and names that are none.
fn item_types() -> impl Strategy<Value = Option<String>> {
    let counts =
        select(vec!["1", "2", "02", "0", "-1", "", "٣", "18446744073709551615", "18446744073709551616", "1e3"]);
    let names = select(vec![KINDS, "other.Type", "a", "", "*", "Größe\u{0}", "\u{202e}"]);
    let name = prop_oneof![8 => names.prop_map(str::to_owned), 1 => (1_usize..5_000).prop_map(|len| "n".repeat(len))];
    let runs = vec((counts, name).prop_map(|(count, name)| format!("{count}*{name}")), 0..6);
    let many = (1_usize..20_000, select(vec!["1*a 1*b ", "1*a ", "2*fluffle.wiretest.v1.Kinds\t"]));
    prop_oneof![
        2 => Just(None),
        4 => Just(Some(format!("2*{KINDS}"))),
        4 => runs.prop_map(|runs| Some(runs.join(" "))),
        1 => many.prop_map(|(times, part)| Some(part.repeat(times))),
        1 => ".{0,60}".prop_map(Some),
    ]
}

fn label(known: Vec<&'static str>) -> impl Strategy<Value = Option<String>> {
    let known = select(known).prop_map(|label| Some(label.to_owned()));
    prop_oneof![4 => Just(None), 8 => known, 1 => ".{0,40}".prop_map(Some)]
}

/// Random bytes, and bodies that are nearly right: good bodies with a few bytes changed, plain and compressed.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let message = Kinds { text: "text".into(), numbers: vec![1, 2, 3], blob: vec![0; 300], ..Kinds::default() };
    let mut good = Vec::new();
    for wire in [Wire::protobuf(), Wire::json()] {
        for gzip in [Gzip::Off, Gzip::on()] {
            let wire = wire.clone().gzip(gzip);
            good.push(wire.encode(&message).unwrap().body.to_vec());
            good.push(wire.encode_batch([&message, &message]).unwrap().body.to_vec());
        }
    }
    let bombs = [20, 200_000, 2_000_000].map(|zeros| {
        let limits = Limits { ratio: usize::MAX, ..Limits::default() };
        let bomb = Kinds { blob: vec![0; zeros], ..Kinds::default() };
        Wire::protobuf().gzip(Gzip::on()).limits(limits).encode(&bomb).unwrap().body.to_vec()
    });
    let damaged = (select(good), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>());
    prop_oneof![
        vec(any::<u8>(), 0..200),
        (vec(any::<u8>(), 1..50), 0_usize..1_500).prop_map(|(part, times)| part.repeat(times)),
        select(bombs.to_vec()),
        damaged.prop_map(|(mut body, changes, len)| {
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            body.truncate(len.index(body.len() + 1).max(body.len() / 2));
            body
        }),
    ]
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let labels = (
        label(CONTENT_TYPES.to_vec()),
        label(vec!["gzip", "GZIP", "x-gzip", "identity", "deflate", ""]),
        label(vec![KINDS, "other.Type", ""]),
        item_types(),
    );
    (labels, body()).prop_map(|((content_type, content_encoding, type_name, item_types), body)| Hostile {
        content_type,
        content_encoding,
        type_name,
        item_types,
        body: body.into(),
    })
}

/// The most memory held at one time while `work` runs, beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (MEMORY.peak_usage() - before, result)
}

#[test]
fn any_bytes_under_any_labels_give_a_value_or_an_error_within_the_limits() {
    let protobuf = Wire::<Kinds>::protobuf().limits(LIMITS);
    let json = Wire::<Kinds>::json().limits(LIMITS);
    // Makes the descriptors, which are built once on first use and must not be counted.
    let _ = json.encode(&Kinds::default());

    let typed = Cell::new(0_usize);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&hostile(), |hostile| {
            let incoming = hostile.incoming();
            for wire in [&protobuf, &json] {
                let (used, outcome) = peak(|| wire.decode(&incoming));
                let decoded = outcome.as_ref().map_or_else(|e| e.kind() == DecodeErrorKind::Malformed, |_| true);
                let allowed = UNPACKED + if decoded { LIMITS.decompressed * GROWTH } else { 0 };
                prop_assert!(used <= allowed, "{used} bytes were used, {allowed} allowed: {outcome:?}");
                if let Err(error) = outcome {
                    prop_assert!(error.to_string().len() < 1_000);
                }
                // Opening a batch unpacks it and counts its items, but decodes nothing.
                let (used, batch) = peak(|| wire.decode_batch(&incoming));
                let allowed = UNPACKED + hostile.item_types.as_ref().map_or(0, String::len) * TYPES;
                prop_assert!(used <= allowed, "{used} bytes were used, {allowed} allowed");
                if let Ok(batch) = batch {
                    typed.set(typed.get() + usize::from(!batch.item_types().is_empty()));
                    prop_assert!(batch.item_types().is_empty() || batch.item_types().len() >= batch.len());
                    prop_assert!(batch.len() <= LIMITS.batch_items);
                    prop_assert_eq!(batch.iter().count(), batch.len());
                }
            }
            Ok(())
        })
        .unwrap();

    // Not each batch of several types is rejected at once. About 20 are not.
    assert!(typed.get() > 5, "{} batches of several types were opened", typed.get());

    // The bound is tight: a body that unpacks to exactly the limit uses most of it. (Its bytes are 255, so that as a
    // batch it is one broken length and not many items.)
    let blob = vec![255; LIMITS.decompressed - 6];
    let sent = protobuf.clone().gzip(Gzip::on()).encode(&Kinds { blob, ..Kinds::default() }).unwrap();
    let (used, batch) = peak(|| protobuf.decode_batch(&Incoming { content_type: None, ..sent.incoming() }));
    assert!(batch.is_ok());
    assert!(used >= LIMITS.decompressed, "the memory counter counts nothing");
}
