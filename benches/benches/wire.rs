//! The cost of encoding and decoding a message, with and without gzip, alone and in batches.
//!
//! `cargo bench -p benches --bench wire`; bytes per second are counted before gzip.
#![allow(clippy::expect_used, missing_docs)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use fluffle_wire::{Gzip, Level, Wire};
use protos::wiretest::Kinds;

fn main() {
    divan::main();
}

/// Bytes of the encoded message.
const SIZES: [usize; 3] = [100, 1024, 64 * 1024];

/// Messages of 100 bytes that fill a batch of 64 KiB.
const BATCH: usize = 64 * 1024 / 101;

/// Text that compresses about as well as messages do (2.5 to 3 times), of exactly `size` bytes once encoded.
fn message(size: usize, seed: u64) -> Kinds {
    const WORDS: [&str; 16] = [
        "earthquake",
        "reviewed",
        "magnitude",
        "ci",
        "California",
        "km",
        "depth",
        "station",
        "ml",
        "automatic",
        "uw",
        "Alaska",
        "of",
        "mww",
        "region",
        "NE",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut text = String::new();
    while text.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 60) as usize]);
        text.push_str(&format!(" {:x} ", state >> 40 & 0xfff));
    }
    let mut message = Kinds { number: 2.5, signed: 1_517_966_773_840, ..Kinds::default() };
    let wire = wire("off");
    let len = |message: &Kinds| wire.encode(message).expect("encodes").raw_len;
    text.truncate(size - len(&message));
    message.text = text;
    // The text's own length and tag.
    let over = len(&message) - size;
    message.text.truncate(message.text.len() - over);
    message
}

fn wire(gzip: &str) -> Wire<Kinds> {
    Wire::protobuf().gzip(match gzip {
        "gzip 1" => Gzip::on(),
        "gzip 6" => Gzip::On(Level::BALANCED),
        _ => Gzip::Off,
    })
}

fn encode_with(bencher: Bencher<'_, '_>, wire: &Wire<Kinds>, size: usize) {
    let message = message(size, 0);
    bencher.counter(BytesCount::new(size)).bench_local(|| wire.encode(black_box(&message)));
}

fn decode_with(bencher: Bencher<'_, '_>, wire: &Wire<Kinds>, size: usize) {
    let sent = wire.encode(&message(size, 0)).expect("encodes");
    bencher.counter(BytesCount::new(size)).bench_local(|| wire.decode(black_box(&sent.incoming())));
}

#[divan::bench_group]
mod encode {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn plain(bencher: Bencher<'_, '_>, size: usize) {
        encode_with(bencher, &wire("off"), size);
    }

    #[divan::bench(args = SIZES)]
    fn gzip_1(bencher: Bencher<'_, '_>, size: usize) {
        encode_with(bencher, &wire("gzip 1"), size);
    }

    #[divan::bench(args = SIZES)]
    fn gzip_6(bencher: Bencher<'_, '_>, size: usize) {
        encode_with(bencher, &wire("gzip 6"), size);
    }

    #[divan::bench(args = SIZES)]
    fn json(bencher: Bencher<'_, '_>, size: usize) {
        encode_with(bencher, &Wire::json(), size);
    }
}

#[divan::bench_group]
mod decode {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn plain(bencher: Bencher<'_, '_>, size: usize) {
        decode_with(bencher, &wire("off"), size);
    }

    #[divan::bench(args = SIZES)]
    fn gzip_1(bencher: Bencher<'_, '_>, size: usize) {
        decode_with(bencher, &wire("gzip 1"), size);
    }

    #[divan::bench(args = SIZES)]
    fn gzip_6(bencher: Bencher<'_, '_>, size: usize) {
        decode_with(bencher, &wire("gzip 6"), size);
    }

    #[divan::bench(args = SIZES)]
    fn json(bencher: Bencher<'_, '_>, size: usize) {
        decode_with(bencher, &Wire::json(), size);
    }
}

/// Different messages of 100 bytes.
fn messages() -> Vec<Kinds> {
    (0..BATCH as u64).map(|seed| message(100, seed)).collect()
}

/// A body of 64 KiB full of 100-byte messages.
#[divan::bench_group]
mod batch_of_64_kib {
    use super::*;

    #[divan::bench(args = ["off", "gzip 1"])]
    fn encode(bencher: Bencher<'_, '_>, gzip: &str) {
        let messages = messages();
        let mut batch = wire(gzip).batch();
        bencher.counter(ItemsCount::new(BATCH)).counter(BytesCount::new(BATCH * 100)).bench_local(|| {
            for message in &messages {
                batch.push(black_box(message)).expect("fits");
            }
            batch.finish()
        });
    }

    #[divan::bench(args = ["off", "gzip 1"])]
    fn decode(bencher: Bencher<'_, '_>, gzip: &str) {
        let wire = wire(gzip);
        let sent = wire.encode_batch(&messages()).expect("encodes");
        bencher.counter(ItemsCount::new(BATCH)).counter(BytesCount::new(BATCH * 100)).bench_local(|| {
            let batch = wire.decode_batch(black_box(&sent.incoming())).expect("opens");
            batch.iter().filter(|item| item.is_ok()).count()
        });
    }
}
