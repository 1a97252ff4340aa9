//! Random messages, as fast as the queue takes them, and valid messages in another queue, which must not be affected.
//!
//! `FLUFFLE_FOREIGN_SECONDS` sets the duration (default 4). `FLUFFLE_FOREIGN_SEED` sets the seed (default random; it is
//! printed).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use conformance::raw::{Fields, array, field, flags, nested_arrays, nested_tables, table};
use fastrand::Rng;
use futures_util::{FutureExt, StreamExt};

use super::*;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..=most);
    match rng.u8(..4) {
        0 => (0..length).map(|_| rng.u8(..)).collect(),
        1 => "é日".bytes().cycle().take(length).collect(),
        _ => (0..length).map(|_| rng.alphanumeric() as u8).collect(),
    }
}

/// A value of a field table, of a type that RabbitMQ knows or of a random type.
fn value(rng: &mut Rng, depth: usize) -> Vec<u8> {
    match rng.u8(..if depth == 0 { 9 } else { 12 }) {
        0 => vec![b'V'],
        1 => [&b"t"[..], &[rng.u8(..)]].concat(),
        2 => [&b"l"[..], &rng.u64(..).to_be_bytes()].concat(),
        3 => [&b"d"[..], &f64::NAN.to_be_bytes()].concat(),
        4 => [&b"D"[..], &[rng.u8(..)], &rng.u32(..).to_be_bytes()].concat(),
        5 => nested_arrays(rng.usize(1..3000)),
        6 => nested_tables(rng.usize(1..3000)),
        7 => [&[rng.u8(..)], &bytes(rng, 12)[..]].concat(),
        8 => array(&vec![vec![b'V']; rng.usize(..6000)]),
        9 => array(&(0..rng.usize(..5)).map(|_| value(rng, depth - 1)).collect::<Vec<_>>()),
        10 => [&b"F"[..], &headers(rng, depth - 1)].concat(),
        _ => {
            let text = bytes(rng, 300);
            [&b"S"[..], &u32::try_from(text.len()).unwrap().to_be_bytes(), &text].concat()
        }
    }
}

const NAMES: [&str; 10] = [
    "x-death",
    "x-delivery-count",
    "x-first-death-queue",
    "x-fluffle-attempt",
    "x-fluffle-reason",
    "x-fluffle-origin-queue",
    "x-fluffle-first-seen",
    "x-fluffle-unreadable",
    "x-fluffle-unreadable-mark",
    "traceparent",
];

fn headers(rng: &mut Rng, depth: usize) -> Vec<u8> {
    let entry = |rng: &mut Rng| {
        let name = if rng.bool() { rng.choice(NAMES).unwrap().as_bytes().to_vec() } else { bytes(rng, 20) };
        field(&name, &value(rng, depth))
    };
    table(&(0..rng.usize(..5)).map(|_| entry(rng)).collect::<Vec<_>>())
}

/// Random flags and properties, mostly such as the broker accepts. There is no expiration, because the message could be
/// gone before the test looks for it.
fn properties(rng: &mut Rng) -> (u16, Vec<u8>) {
    if rng.u8(..20) == 0 {
        return (rng.u16(..) & !flags::EXPIRATION, bytes(rng, 60));
    }
    let texts = [
        flags::CONTENT_TYPE,
        flags::CONTENT_ENCODING,
        flags::CORRELATION_ID,
        flags::REPLY_TO,
        flags::MESSAGE_ID,
        flags::TYPE,
        flags::APP_ID,
        flags::CLUSTER_ID,
    ];
    let mut all = 0;
    let mut fields = Fields::new();
    for bit in (2..16).rev().map(|bit| 1 << bit) {
        if rng.u8(..4) != 0 {
            continue;
        }
        fields = match bit {
            bit if texts.contains(&bit) => fields.short(&bytes(rng, 40)),
            flags::HEADERS => fields.bytes(&headers(rng, 3)),
            flags::DELIVERY_MODE | flags::PRIORITY => fields.octet(rng.u8(..)),
            flags::TIMESTAMP => fields.long_long(rng.u64(..)),
            // Neither an expiration nor a user id, which the broker would check.
            _ => continue,
        };
        all |= bit;
    }
    (all, fields.into_bytes())
}

/// Which messages the broker took, and how often each was handled or became a dead letter.
#[derive(Default)]
struct Books {
    taken: BTreeSet<u32>,
    handled: BTreeMap<u32, u32>,
    dead: BTreeMap<u32, u32>,
}

impl Books {
    /// Whether the message was handled or is a dead letter.
    fn has_ended(&self, number: u32) -> bool {
        self.handled.contains_key(&number) || self.dead.contains_key(&number)
    }

    fn missing(&self) -> usize {
        self.taken.iter().filter(|number| !self.has_ended(**number)).count()
    }

    /// Messages that were seen more than once.
    fn repeated(&self) -> Vec<u32> {
        let times = |number: &u32| {
            self.handled.get(number).copied().unwrap_or_default() + self.dead.get(number).copied().unwrap_or_default()
        };
        self.handled.keys().chain(self.dead.keys()).copied().filter(|number| times(number) > 1).collect()
    }
}

impl Bench {
    /// Publishes message `number`. Returns whether the broker took it. If not, opens a new client for the next message.
    fn offer(&mut self, number: u32, key: &[u8], flags: u16, properties: &[u8]) -> bool {
        let text = number.to_string();
        let body = [&[0x0a, text.len() as u8], text.as_bytes()].concat();
        self.foreign.publish(RawPublish { exchange: b"t", key, mandatory: false, flags, properties, body: &body });
        let answer = self.foreign.next_frame();
        if answer.is_some_and(|frame| frame.method() == Some((60, 80))) {
            return true;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], self.place.port()));
        self.foreign = RawClient::open(address, self.place.name(), 0);
        self.foreign.select_confirms();
        false
    }

    /// Consumes the dead letters from now on.
    async fn letters(&self) -> lapin::Consumer {
        let options = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
        self.raw.channel().basic_consume("q.dead".into(), "".into(), options, Default::default()).await.unwrap()
    }

    /// Counts in `books` the messages that were handled and those that became dead letters.
    fn enter(&mut self, books: &mut Books, letters: &mut lapin::Consumer) {
        while let Ok(seen) = self.record.try_recv() {
            *books.handled.entry(seen.text.parse().unwrap()).or_default() += 1;
        }
        while let Some(Some(letter)) = letters.next().now_or_never() {
            let body = letter.unwrap().data;
            let number = std::str::from_utf8(&body[2..]).unwrap().parse().unwrap();
            *books.dead.entry(number).or_default() += 1;
        }
    }
}

#[actix::test]
async fn whatever_the_bytes_they_are_handled_or_dead_letters_and_the_innocent_are_handled_once() {
    let seed = setting("FLUFFLE_FOREIGN_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(setting("FLUFFLE_FOREIGN_SECONDS").unwrap_or(4));
    println!("FLUFFLE_FOREIGN_SEED={seed} FLUFFLE_FOREIGN_SECONDS={}", time.as_secs());
    let mut rng = Rng::with_seed(seed);
    let mut bench = Bench::with(|_| Act::Ok).await;
    let mut letters = bench.letters().await;
    let mut books = Books::default();
    let (mut offered, mut innocent) = (0, 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..20 {
            let (flags, properties) = properties(&mut rng);
            let key = bytes(&mut rng, 30);
            if bench.offer(offered, &key, flags, &properties) {
                books.taken.insert(offered);
            }
            offered += 1;
        }
        soon("published", bench.out.publish(format!("innocent {innocent}"))).await.unwrap();
        // Waits for this message, so that the test does not publish faster than messages are consumed.
        let seen = next(&mut bench.innocent).await;
        assert_eq!((seen.text, seen.redelivered), (format!("innocent {innocent}"), false));
        innocent += 1;
        bench.enter(&mut books, &mut letters);
    }
    println!("{offered} offered, {} taken by the broker; {innocent} innocent", books.taken.len());
    soon("each is handled or a dead letter", async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while books.missing() > 0 {
            look.tick().await;
            bench.enter(&mut books, &mut letters);
        }
    })
    .await;
    println!("{} handled, {} dead letters", books.handled.len(), books.dead.len());
    assert!(
        books.taken.len() > 20 && !books.handled.is_empty() && !books.dead.is_empty(),
        "too few messages were tried"
    );
    // Only a dead letter whose confirm came too late may be there twice, because it was published again.
    let copies = bench.service.publishers().into_iter().filter(|(name, _)| name.ends_with("/copies"));
    let republished: u64 = copies.map(|(_, stats)| stats.republished).sum();
    let repeated = books.repeated();
    assert!(repeated.len() as u64 <= republished, "{repeated:?}, of {republished} republished");
    bench.nobody_noticed().await;
}
