//! Any bytes, and any frames in any order: the broker survives, and serves other clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::Write,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use common::raw::{Raw, frame, header_frame, publish_frame};
use fluffle_broker::Broker;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// Counts panics on the broker's thread. A panic in a task ends only its connection, so without this count a test would
/// not notice it.
static PANICS: AtomicUsize = AtomicUsize::new(0);

static BROKER: LazyLock<Broker> = LazyLock::new(|| {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some("fluffle-broker") {
            PANICS.fetch_add(1, Relaxed);
        }
        report(info);
    }));
    Broker::builder().message_max(1 << 20).start().unwrap()
});

/// How long each property is tested.
const TIME: Duration = Duration::from_secs(8);

fn property<S: Strategy>(strategy: S, check: impl Fn(S::Value)) {
    let start = Instant::now();
    let mut cases = 0;
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    while start.elapsed() < TIME {
        runner
            .run(&strategy, |value| {
                check(value);
                Ok(())
            })
            .unwrap();
        cases += 32;
    }
    assert!(cases > 32, "too slow to tell anything");
}

/// Checks that the broker serves a well-behaved client.
fn still_serving() {
    let mut raw = Raw::with_channel(BROKER.address());
    raw.declare("witness");
    assert_eq!(PANICS.load(Relaxed), 0, "the broker panicked");
}

/// Sends bytes; the broker may close the connection at any time.
fn throw(mut raw: Raw, bytes: &[u8]) {
    let _ = raw.socket.write_all(bytes);
    still_serving();
}

/// Short names, so that commands often hit the same entities.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"".to_vec()),
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(b"amq.topic".to_vec()),
        Just(b"amq.headers".to_vec()),
        Just(b"amq.rabbitmq.reply-to".to_vec()),
        Just(b"fanout".to_vec()),
        vec(any::<u8>(), 0..20),
    ]
    .prop_map(|name| [&[name.len() as u8][..], &name].concat())
}

/// An array with this nesting depth.
fn nested(levels: u32) -> Vec<u8> {
    (0..levels).rev().flat_map(|below| [&b"A"[..], &(below * 5 + 1).to_be_bytes()].concat()).chain(*b"V").collect()
}

/// An argument table with known keys, and with keys of any bytes.
fn table() -> impl Strategy<Value = Vec<u8>> {
    let key = proptest::sample::select(vec![
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-overflow",
        "x-queue-type",
        "x-single-active-consumer",
        "x-delivery-limit",
        "x-priority",
        "x-match",
        "alternate-exchange",
        "CC",
        "BCC",
        "x-death",
    ])
    .prop_map(|name| name.as_bytes().to_vec());
    let key = prop_oneof![8 => key, 1 => vec(any::<u8>(), 0..6)];
    let text = |text: &'static [u8]| Just([&[b'S', 0, 0, 0, text.len() as u8][..], text].concat());
    let value = prop_oneof![
        any::<i32>().prop_map(|number| [&b"I"[..], &number.to_be_bytes()].concat()),
        (0i64..5).prop_map(|number| [&b"l"[..], &number.to_be_bytes()].concat()),
        text(b""),
        text(b"a"),
        text(b"b"),
        text(b"quorum"),
        text(b"reject-publish"),
        text(b"any"),
        text(b"amq.topic"),
        Just(b"t\x01".to_vec()),
        Just(b"V".to_vec()),
        Just(b"A\x00\x00\x00\x06S\x00\x00\x00\x01a".to_vec()),
        Just(b"A\x00\x00\x00\x05F\x00\x00\x00\x00".to_vec()),
        text(b"\xe9"),
        // Finite or not.
        any::<u64>().prop_map(|bits| [&b"d"[..], &bits.to_be_bytes()].concat()),
        (0u32..3000).prop_map(nested),
    ];
    vec((key, value), 0..4).prop_map(|fields| {
        let fields: Vec<u8> =
            fields.into_iter().flat_map(|(key, value)| [&[key.len() as u8][..], &key, &value].concat()).collect();
        [&(fields.len() as u32).to_be_bytes()[..], &fields].concat()
    })
}

/// Methods with well-formed fields and random meaning.
fn method() -> impl Strategy<Value = Vec<u8>> {
    let bits = || any::<u8>().prop_map(|bits| vec![bits & 0b1111]);
    let word = || (0u16..3).prop_map(|word| word.to_be_bytes().to_vec());
    let tag = || (0u64..6).prop_map(|tag| tag.to_be_bytes().to_vec());
    let fields = |ids: &'static [u8], parts: Vec<BoxedStrategy<Vec<u8>>>| {
        parts.prop_map(move |parts| [ids, &parts.concat()].concat()).boxed()
    };
    let (n, t) = (|| name().boxed(), || table().boxed());
    let (b, w, g) = (|| bits().boxed(), || word().boxed(), || tag().boxed());
    prop_oneof![
        4 => fields(&[0, 50, 0, 10], vec![w(), n(), b(), t()]),
         1 => fields(&[0, 50, 0, 20], vec![w(), n(), n(), n(), b(), t()]),
         1 => fields(&[0, 50, 0, 50], vec![w(), n(), n(), n(), t()]),
         1 => fields(&[0, 50, 0, 30], vec![w(), n(), b()]),
         1 => fields(&[0, 50, 0, 40], vec![w(), n(), b()]),
        2 => fields(&[0, 40, 0, 10], vec![w(), n(), n(), b(), t()]),
         1 => fields(&[0, 40, 0, 20], vec![w(), n(), b()]),
         1 => fields(&[0, 40, 0, 30], vec![w(), n(), n(), n(), b(), t()]),
         1 => fields(&[0, 40, 0, 40], vec![w(), n(), n(), n(), b(), t()]),
        4 => fields(&[0, 60, 0, 20], vec![w(), n(), n(), b(), t()]),
         1 => fields(&[0, 60, 0, 30], vec![n(), b()]),
        2 => fields(&[0, 60, 0, 70], vec![w(), n(), b()]),
        3 => fields(&[0, 60, 0, 80], vec![g(), b()]),
        3 => fields(&[0, 60, 0, 120], vec![g(), b()]),
         1 => fields(&[0, 60, 0, 90], vec![g(), b()]),
         1 => fields(&[0, 60, 0, 110], vec![b()]),
         1 => fields(&[0, 60, 0, 10], vec![w(), w(), w(), b()]),
         1 => fields(&[0, 20, 0, 20], vec![b()]),
         1 => fields(&[0, 85, 0, 10], vec![b()]),
         1 => fields(&[0, 90, 0, 10], vec![]),
         1 => fields(&[0, 90, 0, 20], vec![]),
         1 => fields(&[0, 90, 0, 30], vec![]),
    ]
}

/// A frame, or a whole publish.
fn sequence() -> impl Strategy<Value = Vec<u8>> {
    // Flags for the headers, and for one text of any bytes: correlation id, reply-to, message id or type.
    let text = (name(), proptest::sample::select(vec![1u16 << 10, 1 << 9, 1 << 7, 1 << 5]));
    let publish = (name(), name(), table(), text, 0u8..4, vec(any::<u8>(), 0..40)).prop_map(
        |(exchange, key, headers, (text, flag), bits, body)| {
            let method = [&[0, 60, 0, 40, 0, 0][..], &exchange, &key, &[bits & 1]].concat();
            let flags = (flag | 0x2000).to_be_bytes();
            let size = (body.len() as u64).to_be_bytes();
            let header = [&[0, 60, 0, 0][..], &size, &flags, &headers, &text].concat();
            let body = if body.is_empty() { Vec::new() } else { frame(3, 1, &body) };
            [frame(1, 1, &method), frame(2, 1, &header), body].concat()
        },
    );
    prop_oneof![
        6 => method().prop_map(|method| frame(1, 1, &method)),
        6 => publish,
        // After an error, close the channel and open it again.
        3 => Just([frame(1, 1, &[0, 20, 0, 41]), frame(1, 1, &[0, 20, 0, 10, 0])].concat()),
        1 => Just([frame(1, 1, &[0, 20, 0, 40, 0, 0, 0, 0, 0, 0, 0]), frame(1, 1, &[0, 20, 0, 10, 0])].concat()),
        1 => (any::<u8>(), 0u16..3, vec(any::<u8>(), 0..30))
            .prop_map(|(kind, channel, payload)| frame(kind % 5, channel, &payload)),
        1 => Just(header_frame(1, 3)),
        1 => Just(publish_frame(1, "a")),
    ]
}

#[test]
fn any_bytes_leave_the_broker_serving() {
    property((any::<u8>(), vec(any::<u8>(), 0..400)), |(stage, bytes)| match stage % 3 {
        0 => throw(Raw::bare(BROKER.address()), &bytes),
        1 => throw(Raw::bare(BROKER.address()), &[b"AMQP\x00\x00\x09\x01", &bytes[..]].concat()),
        _ => throw(Raw::with_channel(BROKER.address()), &bytes),
    });
}

#[test]
fn any_frames_in_any_order_leave_the_broker_serving() {
    property(vec(sequence(), 1..60), |frames| throw(Raw::with_channel(BROKER.address()), &frames.concat()));
}
