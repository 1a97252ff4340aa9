//! The proxy in front of the embedded broker, and of RabbitMQ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use common::{DEADLINE, publish, raw::Raw, run, until};
use fluffle_broker::{Broker, Direction, Fault, Proxy, Rule, Target};
use fluffle_harness::RabbitMq;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, ConfirmSelectOptions},
};

/// Does a client's work through the proxy.
fn works(proxy: &Proxy, upstream: &str) {
    run(async {
        let url = proxy.url_for(upstream);
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let name = channel.queue_declare("".into(), Default::default(), Default::default()).await.unwrap();
        // Larger than the proxy's buffer, so that it passes in pieces.
        let body = vec![7; 300_000];
        publish(&channel, name.name().as_str(), &body, false).await;
        let got = channel.basic_get(name.name().clone(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
        assert_eq!(got.data, body);
        connection.close(200, "".into()).await.unwrap();
    });
}

/// Tests every network fault in front of any broker, by hand and by rule.
fn faults_before(address: SocketAddr, url: &str) {
    let proxy = Proxy::with_seed(address, 7).unwrap();
    works(&proxy, url);
    let faults = proxy.faults();
    assert_eq!(faults.seed(), 7);
    let open = || Raw::open(proxy.address(), 0).and_channel();

    let refused = faults.inject(Rule::new(Fault::Refuse).times(1)).unwrap();
    assert_eq!(Raw::bare(proxy.address()).read_close(), None);
    assert_eq!(refused.fired(), 1);

    let (mut first, mut second) = (open(), open());
    assert_eq!(faults.strike(Fault::Cut, Target::first(1)).unwrap().fired(), 1);
    assert_eq!(first.read_close(), None);
    second.declare("proxied");

    let stalled = Fault::Stall { direction: Direction::ToClient, time: Duration::from_secs(3600) };
    let stalled = faults.strike(stalled, Target::all()).unwrap();
    second.send_declare("proxied");
    open().declare("proxied");
    assert!(second.hears_nothing());
    stalled.heal().unwrap();
    second.read_method();

    let time = Duration::from_millis(50);
    let delayed = faults.strike(Fault::Delay { direction: Direction::Both, time }, Target::all()).unwrap();
    let start = Instant::now();
    second.declare("proxied");
    assert!(start.elapsed() >= time * 2, "{:?}", start.elapsed());
    delayed.heal().unwrap();

    let slow = Fault::Slow { direction: Direction::ToBroker, bytes_per_second: 50_000 };
    let slow = faults.strike(slow, Target::all()).unwrap();
    let start = Instant::now();
    second.publish_body("proxied", &[0; 20_000]);
    second.declare("proxied");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    slow.heal().unwrap();

    let silent = faults.strike(Fault::HalfOpen, Target::all()).unwrap();
    second.send_declare("proxied");
    open().declare("proxied");
    assert!(second.hears_nothing());
    silent.heal().unwrap();
    assert_eq!(second.read_close(), None);

    // 1 MiB is sent; the connection is cut after exactly half of it.
    let cut = faults.inject(Rule::new(Fault::Cut).after_bytes(Direction::ToBroker, 1 << 19).times(1)).unwrap();
    let mut doomed = open();
    let flood = std::iter::repeat_with(|| doomed.socket.write(&[8, 0, 0, 0, 0, 0, 0, 0xCE].repeat(1024)));
    assert!(flood.take(1 << 20).any(|written| written.is_err()), "the connection should be cut");
    cut.wait_fired(1, DEADLINE).unwrap();

    works(&proxy, url);
    let history = faults.history().unwrap();
    for fault in ["Refuse", "Cut", "Stall", "Delay", "Slow", "HalfOpen"] {
        assert!(history.iter().any(|fired| fired.to_string().contains(fault)), "{fault}: {history:?}");
    }
}

#[test]
fn before_the_embedded_broker() {
    let broker = Broker::start().unwrap();
    faults_before(broker.address(), &broker.url());
}

#[test]
fn before_rabbitmq() {
    let node = RabbitMq::shared().unwrap();
    faults_before(([127, 0, 0, 1], node.port()).into(), &node.url());
}

#[test]
fn by_chance_the_same_seed_cuts_the_same_connections() {
    let broker = Broker::start().unwrap();
    let fates = |seed: u64| {
        let proxy = Proxy::with_seed(broker.address(), seed).unwrap();
        let rule = Rule::new(Fault::Cut).after_bytes(Direction::ToClient, 100).probability(0.5);
        proxy.faults().inject(rule).unwrap();
        let mut lived = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::bare(proxy.address());
            raw.write(b"AMQP\x00\x00\x09\x01");
            lived.push(raw.read_frame().is_some());
        }
        lived
    };
    let first = fates(1);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(fates(1), first);
    assert_ne!(fates(2), first);
}

#[test]
fn half_open_the_client_is_not_told_that_the_broker_has_ended() {
    let broker = Broker::start().unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    let mut raw = Raw::open(proxy.address(), 0);
    proxy.faults().strike(Fault::HalfOpen, Target::all()).unwrap();
    broker.kill().unwrap();
    broker.start_again().unwrap();
    works(&proxy, &broker.url());
    assert!(raw.hears_nothing());
    proxy.faults().heal_all().unwrap();
    assert_eq!(raw.read_close(), None);
}

#[test]
fn half_open_or_stalled_the_client_is_not_told_of_a_reset_either() {
    let time = Duration::from_secs(3600);
    for fault in [Fault::HalfOpen, Fault::Stall { direction: Direction::ToClient, time }] {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(upstream.local_addr().unwrap()).unwrap();
        let mut raw = Raw::bare(proxy.address());
        let mut deserter = Raw::bare(proxy.address());
        let unread = [&mut raw, &mut deserter].map(|client| {
            let (broker, _) = upstream.accept().unwrap();
            client.write(b"unread");
            broker.peek(&mut [0]).unwrap();
            broker
        });
        proxy.faults().strike(fault.clone(), Target::all()).unwrap();
        // Dropping unread bytes makes this end send a reset.
        drop(unread);
        let mut other = Raw::bare(proxy.address());
        let (mut broker, _) = upstream.accept().unwrap();
        broker.write_all(b"!").unwrap();
        other.socket.read_exact(&mut [0]).unwrap();
        assert!(raw.hears_nothing(), "{fault}");
        if fault == Fault::HalfOpen {
            drop(deserter);
            until_connections(&proxy, 2);
        }
        proxy.faults().heal_all().unwrap();
        assert_eq!(raw.read_close(), None);
    }
}

/// Waits until the proxy has so many connections: a stall of zero duration strikes, and so counts, each of them.
fn until_connections(proxy: &Proxy, count: u64) {
    let count_now = || {
        let stall = Fault::Stall { direction: Direction::Both, time: Duration::ZERO };
        proxy.faults().strike(stall, Target::all()).unwrap().fired()
    };
    let start = Instant::now();
    while count_now() != count {
        assert!(start.elapsed() < DEADLINE, "the proxy has {} connections, not {count}", count_now());
    }
}

#[test]
fn a_half_open_connection_ends_with_its_client() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(upstream.local_addr().unwrap()).unwrap();
    let raw = Raw::bare(proxy.address());
    let (mut broker, _) = upstream.accept().unwrap();
    broker.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(proxy.faults().strike(Fault::HalfOpen, Target::all()).unwrap().fired(), 1);
    drop(raw);
    assert_eq!(broker.read(&mut [0]).unwrap(), 0);
    // Writing must fail in the end, because both directions of the connection are gone.
    while broker.write(&[0]).is_ok() {}
}

#[test]
fn half_open_or_stalled_the_broker_hears_nothing_from_the_first_byte_on() {
    let time = Duration::from_secs(3600);
    for fault in [Fault::HalfOpen, Fault::Stall { direction: Direction::ToBroker, time }] {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(upstream.local_addr().unwrap()).unwrap();
        let mut raw = Raw::bare(proxy.address());
        let (mut broker, _) = upstream.accept().unwrap();
        // Once this has arrived, the proxy waits for more input.
        raw.write(b"?");
        broker.read_exact(&mut [0]).unwrap();
        proxy.faults().strike(fault.clone(), Target::all()).unwrap();
        raw.write(b"unheard");
        let mut other = Raw::bare(proxy.address());
        let (mut heard, _) = upstream.accept().unwrap();
        other.write(b"!");
        heard.read_exact(&mut [0]).unwrap();
        broker.set_nonblocking(true).unwrap();
        assert_eq!(broker.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "{fault}");
    }
}

#[test]
fn an_end_goes_through_in_both_directions() {
    let broker = Broker::start().unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    let raw = Raw::open(proxy.address(), 0);
    drop(raw);
    until(&broker, |state| state.connections.is_empty());
    let mut raw = Raw::open(proxy.address(), 0);
    broker.stop().unwrap();
    assert_eq!(raw.read_close(), Some(320));
    assert_eq!(raw.read_close(), None);
    // If nothing listens upstream, the proxy ends the connection.
    assert_eq!(Raw::bare(proxy.address()).read_close(), None);
    let mut raw = {
        broker.start_again().unwrap();
        Raw::open(proxy.address(), 0)
    };
    drop(proxy);
    assert_eq!(raw.read_close(), None);
}

#[test]
fn who_does_not_read_slows_down_who_writes() {
    const MOST: usize = 64 << 20;
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(upstream.local_addr().unwrap()).unwrap();
    let mut raw = Raw::bare(proxy.address());
    let (_unread, _) = upstream.accept().unwrap();
    raw.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while let Ok(count) = raw.socket.write(&[0; 64 << 10]) {
        sent += count;
        assert!(sent < MOST, "the proxy takes in what nobody reads");
    }
}
