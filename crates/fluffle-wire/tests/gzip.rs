//! Compression: when it is used, and how bodies with a false gzip label or false sizes are refused.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use fluffle_wire::{DecodeError, DecodeErrorKind, EncodeErrorKind, Gzip, Incoming, Level, Limits, Wire};
use protos::wiretest::Kinds;

const MIB: usize = 1024 * 1024;

fn gz(raw: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

fn kinds(blob: Vec<u8>) -> Kinds {
    Kinds { blob, ..Kinds::default() }
}

fn raw(blob: Vec<u8>) -> Vec<u8> {
    Wire::<Kinds>::protobuf().encode(&kinds(blob)).unwrap().body.into()
}

/// Bytes that no compressor can make smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn decode(limits: Limits, body: Vec<u8>) -> Result<Kinds, DecodeError> {
    let body = Bytes::from(body);
    let incoming = Incoming { content_encoding: Some("gzip"), ..Incoming::unlabelled(&body) };
    Wire::protobuf().limits(limits).decode(&incoming)
}

fn kind(body: Vec<u8>) -> DecodeErrorKind {
    decode(Limits::default(), body).unwrap_err().kind()
}

#[test]
fn off_leaves_the_body_alone_and_on_compresses_even_the_smallest() {
    let message = kinds(vec![7; 10]);
    let off = Wire::protobuf().encode(&message).unwrap();
    assert_eq!((off.content_encoding, off.body.len()), (None, off.raw_len));

    let on = Wire::protobuf().gzip(Gzip::on()).encode(&message).unwrap();
    assert_eq!(on.content_encoding, Some("gzip"));
    assert_eq!((on.raw_len, &on.body[..2]), (off.raw_len, &[0x1f, 0x8b][..]));
}

#[test]
fn auto_compresses_from_its_size_and_only_if_it_pays() {
    let wire = Wire::protobuf().gzip(Gzip::auto());
    let encoding = |blob| wire.encode(&kinds(blob)).unwrap().content_encoding;
    assert_eq!(encoding(vec![7; 900]), None);
    assert_eq!(encoding(vec![7; 1100]), Some("gzip"));
    assert_eq!(encoding(noise(100_000)), None);

    // A body that becomes five per cent smaller is not compressed, one that becomes fifteen per cent smaller is.
    let level = Level::BALANCED;
    let wire = Wire::protobuf().gzip(Gzip::Auto { min_size: 0, level });
    let encoding =
        |noisy, plain| wire.encode(&kinds([noise(noisy), vec![7; plain]].concat())).unwrap().content_encoding;
    assert_eq!(encoding(95_000, 5_000), None);
    assert_eq!(encoding(85_000, 15_000), Some("gzip"));
}

#[test]
fn auto_stops_when_it_does_not_pay_and_tries_again_now_and_then() {
    let level = Level::FASTEST;
    let wire = Wire::protobuf().gzip(Gzip::Auto { min_size: 1, level });
    let packs = |blob: &[u8]| wire.encode(&kinds(blob.to_vec())).unwrap().content_encoding.is_some();
    let (dull, good) = (noise(200), vec![7; 200]);
    for _ in 0..3 {
        assert!(!packs(&dull));
    }
    assert!(packs(&good), "three in a row are no reason to stop");
    let pauses = [16, 32, 64, 128, 256, 512, 1024, 1024];
    for _ in 0..3 {
        assert!(!packs(&dull));
    }
    for pause in pauses {
        // This body is tried; those after it are not, however well they would compress.
        assert!(!packs(&dull));
        assert_eq!((0..pause).filter(|_| packs(&good)).count(), 0, "within a pause of {pause}");
    }
    assert!(packs(&good), "the first try that pays");
    assert!(packs(&good) && !packs(&dull) && packs(&good), "and it is as at the beginning");
}

#[test]
fn clones_of_a_wire_measure_together_and_a_new_policy_measures_anew() {
    let auto = Gzip::Auto { min_size: 1, level: Level::FASTEST };
    let wire = Wire::protobuf().gzip(auto);
    let (dull, good) = (kinds(noise(200)), kinds(vec![7; 200]));
    for _ in 0..4 {
        wire.clone().encode(&dull).unwrap();
    }
    assert_eq!(wire.encode(&good).unwrap().content_encoding, None);
    assert_eq!(wire.gzip(auto).encode(&good).unwrap().content_encoding, Some("gzip"));
}

#[test]
fn each_level_is_its_own_though_the_compressor_is_used_again() {
    let text: String = (0..2_000).map(|i| format!("{} bottles of {} ", i % 99, i * i % 7)).collect();
    let len = |level| {
        let message = Kinds { text: text.clone(), ..Kinds::default() };
        Wire::protobuf().gzip(Gzip::On(level)).encode(&message).unwrap().body.len()
    };
    let fastest = len(Level::FASTEST);
    assert!(len(Level::SMALLEST) < fastest);
    assert_eq!(len(Level::FASTEST), fastest);
}

#[test]
fn every_level_and_policy_comes_back_as_it_was() {
    let message = kinds([noise(20_000), vec![1; 20_000]].concat());
    for level in 1..=9 {
        let level = Level::new(level).unwrap();
        for gzip in [Gzip::On(level), Gzip::Auto { min_size: 0, level }] {
            let wire = Wire::protobuf().gzip(gzip);
            let sent = wire.encode(&message).unwrap();
            assert_eq!(sent.content_encoding, Some("gzip"));
            assert_eq!(wire.decode(&sent.incoming()).unwrap(), message);
        }
    }
}

#[test]
fn a_level_outside_1_to_9_says_which_there_are() {
    assert!(Level::new(0).unwrap_err().to_string().contains("1 (fastest) to 9 (smallest), not 0"));
    assert!(Level::new(10).is_err());
    assert!(Level::new(266).is_err());
}

#[test]
fn the_sender_does_not_compress_what_the_receiver_would_take_for_a_bomb() {
    let wire = Wire::protobuf().gzip(Gzip::on());
    let zeros = kinds(vec![0; 2 * MIB]);
    let sent = wire.encode(&zeros).unwrap();
    assert_eq!(sent.content_encoding, None);
    assert_eq!(wire.decode(&sent.incoming()).unwrap(), zeros);
}

#[test]
fn the_sender_refuses_what_the_receiver_would_refuse() {
    let limits = Limits { encoded: 10_000, decompressed: 20_000, ..Limits::default() };
    let encode = |gzip, blob| {
        let sent = Wire::protobuf().gzip(gzip).limits(limits).encode(&kinds(blob));
        sent.map(|sent| sent.raw_len).map_err(|e| e.kind())
    };
    assert_eq!(encode(Gzip::Off, vec![0; 15_000]), Err(EncodeErrorKind::TooLarge));
    assert_eq!(encode(Gzip::on(), vec![0; 15_000]), Ok(15_003));
    assert_eq!(encode(Gzip::on(), vec![0; 25_000]), Err(EncodeErrorKind::TooLarge));
    assert_eq!(encode(Gzip::on(), noise(15_000)), Err(EncodeErrorKind::TooLarge));
    assert_eq!(encode(Gzip::auto(), noise(15_000)), Err(EncodeErrorKind::TooLarge));
}

#[test]
fn a_bomb_is_refused_by_its_ratio() {
    assert_eq!(kind(gz(&vec![0; 2 * MIB])), DecodeErrorKind::Ratio);
    // Now the bytes are spread over two members of one body.
    assert_eq!(kind(gz(&vec![0; MIB]).repeat(2)), DecodeErrorKind::Ratio);
}

#[test]
fn a_small_body_may_have_any_ratio() {
    let body = gz(&raw(vec![0; MIB - 10]));
    assert!(MIB / body.len() > 100);
    assert!(decode(Limits::default(), body).is_ok());
}

#[test]
fn the_size_limits_hold_to_the_byte() {
    let raw = raw(noise(5_000));
    let body = gz(&raw);
    let limits = Limits { decompressed: raw.len(), encoded: body.len(), ..Limits::default() };
    assert!(decode(limits, body.clone()).is_ok());

    let tighter = Limits { decompressed: raw.len() - 1, ..limits };
    let error = decode(tighter, body.clone()).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::TooLarge);
    assert!(error.to_string().contains(&tighter.decompressed.to_string()), "{error}");

    let tighter = Limits { encoded: body.len() - 1, ..limits };
    let error = decode(tighter, body).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::TooLarge);
    assert!(error.to_string().contains(&tighter.encoded.to_string()), "{error}");
}

#[test]
fn limits_without_bound_do_not_overflow() {
    let limits = Limits { encoded: usize::MAX, decompressed: usize::MAX, ratio: usize::MAX, batch_items: usize::MAX };
    let wire = Wire::protobuf().limits(limits).gzip(Gzip::on());
    let message = kinds(vec![0; 2 * MIB]);
    let sent = wire.encode(&message).unwrap();
    assert_eq!(sent.content_encoding, Some("gzip"));
    assert_eq!(wire.decode(&sent.incoming()).unwrap(), message);
    let batch = wire.encode_batch([&message]).unwrap();
    assert_eq!(wire.decode_batch(&batch.incoming()).unwrap().len(), 1);
}

#[test]
fn members_in_a_row_are_one_body() {
    let raw = raw(noise(3_000));
    let (first, second) = raw.split_at(1_000);
    let body = [gz(first), gz(second)].concat();
    assert_eq!(decode(Limits::default(), body).unwrap(), kinds(noise(3_000)));
}

#[test]
fn thousands_of_empty_members_are_refused_early() {
    assert_eq!(kind(gz(&[]).repeat(1025)), DecodeErrorKind::Gzip);
    assert!(decode(Limits::default(), gz(&[]).repeat(1024)).is_ok());
}

#[test]
fn what_is_no_gzip_says_what_it_is() {
    let message = raw(vec![7; 100]);
    let says = |body, words: &str| {
        let error = decode(Limits::default(), body).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::Gzip);
        assert!(error.to_string().contains(words), "{error}");
    };
    says(message.clone(), "does not start like gzip");
    says(Vec::new(), "cut short");
    says([gz(&message), b"more".to_vec()].concat(), "4 bytes follow it");

    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&message).unwrap();
    says(zlib.finish().unwrap(), "zlib");
}

#[test]
fn a_body_cut_short_anywhere_is_refused() {
    let body = gz(&raw(noise(300)));
    for len in 0..body.len() {
        assert_eq!(kind(body[..len].to_vec()), DecodeErrorKind::Gzip, "cut at {len}");
    }
}

#[test]
fn one_flipped_bit_never_gives_another_message() {
    let body = gz(&raw(noise(300)));
    for at in 0..body.len() {
        let mut damaged = body.clone();
        damaged[at] ^= 0x10;
        match decode(Limits::default(), damaged) {
            // The bit has no meaning, for example in the time or the padding.
            Ok(message) => assert_eq!(message, kinds(noise(300)), "flipped at {at}"),
            Err(error) => assert_eq!(error.kind(), DecodeErrorKind::Gzip, "flipped at {at}"),
        }
    }
}
