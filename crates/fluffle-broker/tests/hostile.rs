//! Clients that do not read, do not send, or never stop must not harm other clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use amq_protocol::protocol::{AMQPClass, basic};
use common::{
    channel,
    raw::{Raw, frame, header_frame, method_frame, publish_frame},
    run, until,
};
use fluffle_broker::Broker;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};

/// Checks that the broker still does a client's work.
fn others_are_served(broker: &Broker) {
    run(async {
        let channel = channel(broker).await;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("served".into(), options, Default::default()).await.unwrap();
        common::publish(&channel, "served", b"m", false).await;
        let got = channel.basic_get("served".into(), BasicGetOptions { no_ack: true }).await.unwrap();
        assert_eq!(&got.unwrap().data[..], b"m");
        channel.queue_delete("served".into(), Default::default()).await.unwrap();
    });
}

#[test]
fn a_consumer_that_does_not_read_leaves_the_messages_in_the_queue() {
    let broker = Broker::start().unwrap();
    let mut consumer = Raw::with_channel(broker.address());
    consumer.declare("q");
    let consume = basic::Consume {
        queue: "q".into(),
        consumer_tag: "c".into(),
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: true,
        arguments: Default::default(),
    };
    consumer.send(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
    let mut publisher = Raw::with_channel(broker.address());
    let message = [publish_frame(1, "q"), header_frame(1, 50_000), frame(3, 1, &[0; 50_000])].concat();
    const COUNT: usize = 1000;
    for _ in 0..COUNT {
        publisher.write(&message);
    }
    // 50 MB were sent: the sockets hold some megabytes, the output holds one, and the queue holds the rest.
    let state = until(&broker, |state| state.queue("q").unwrap().ready > COUNT / 2);
    assert_eq!(state.queue("q").unwrap().consumers, 1);
    others_are_served(&broker);
    // When the client reads at last, it gets everything.
    let mut delivered = 0;
    while delivered < COUNT {
        if let (1, AMQPClass::Basic(basic::AMQPMethod::Deliver(_))) = consumer.read_method() {
            delivered += 1;
        }
    }
    assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().ready, 0);
}

#[test]
fn a_client_that_asks_and_does_not_read_is_no_longer_answered() {
    const COUNT: usize = 1000;
    const BODY: usize = 100_000;
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    let message = [publish_frame(1, "q"), header_frame(1, BODY as u64), frame(3, 1, &[0; BODY])].concat();
    (0..COUNT).for_each(|_| raw.write(&message));
    until(&broker, |state| state.queue("q").unwrap().ready == COUNT);
    let get = basic::Get { queue: "q".into(), no_ack: false };
    // 20 kB of requests whose answers take 100 MB.
    raw.write(&method_frame(1, AMQPClass::Basic(basic::AMQPMethod::Get(get))).repeat(COUNT));
    others_are_served(&broker);
    let unacked = until(&broker, |state| state.queue("q").unwrap().unacked > 50).queue("q").unwrap().unacked;
    assert!(unacked < COUNT / 2, "{unacked} answers wait for someone who does not read");
    // When the client reads at last, it gets every answer.
    let mut answered = 0;
    while answered < COUNT {
        if let (1, AMQPClass::Basic(basic::AMQPMethod::GetOk(_))) = raw.read_method() {
            answered += 1;
        }
    }
}

#[test]
fn a_client_that_never_stops_publishing_leaves_the_others_their_turns() {
    let broker = Broker::builder().start().unwrap();
    let address = broker.address();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flooding = stop.clone();
    let flood = std::thread::spawn(move || {
        let mut raw = Raw::with_channel(address);
        let burst = [publish_frame(1, "nowhere"), header_frame(1, 0)].concat().repeat(1000);
        while !flooding.load(std::sync::atomic::Ordering::Relaxed) {
            raw.write(&burst);
        }
    });
    // Each connection has its own deadline.
    for _ in 0..5 {
        others_are_served(&broker);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
}

#[test]
fn who_does_not_finish_the_handshake_is_shown_out() {
    let broker = Broker::builder().handshake_timeout(Duration::from_millis(200)).start().unwrap();
    for beginning in [&b""[..], b"AMQ", b"AMQP\x00\x00\x09\x01", b"AMQP\x00\x00\x09\x01\x01\x00"] {
        let mut raw = Raw::bare(broker.address());
        raw.write(beginning);
        assert_eq!(raw.read_close(), None);
    }
}

#[test]
fn a_silent_client_is_dropped_after_two_heartbeats_and_hears_the_brokers_meanwhile() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::open(broker.address(), 1);
    let start = Instant::now();
    let mut heard = 0;
    while let Some(frame) = raw.read_frame() {
        assert_eq!(frame, amq_protocol::frame::AMQPFrame::Heartbeat);
        heard += 1;
    }
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(heard >= 2, "{heard}");
    until(&broker, |state| state.connections.is_empty());
}

#[test]
fn connections_past_the_limit_are_closed_and_may_come_when_others_go() {
    let broker = Broker::builder().connection_max(2).handshake_timeout(Duration::from_secs(60)).start().unwrap();
    let first = Raw::open(broker.address(), 0);
    let _second = Raw::open(broker.address(), 0);
    assert_eq!(Raw::bare(broker.address()).read_close(), None);
    drop(first);
    until(&broker, |state| state.connections.len() == 1);
    Raw::open(broker.address(), 0);
}

#[test]
fn a_client_that_vanishes_gives_back_what_it_held() {
    let broker = Broker::start().unwrap();
    let mut keeper = Raw::with_channel(broker.address());
    keeper.declare("q");
    keeper.write(&[publish_frame(1, "q"), header_frame(1, 0)].concat());
    until(&broker, |state| state.queue("q").unwrap().ready == 1);
    let mut raw = Raw::with_channel(broker.address());
    let get = basic::Get { queue: "q".into(), no_ack: false };
    raw.send(1, AMQPClass::Basic(basic::AMQPMethod::Get(get)));
    raw.read_method();
    assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().unacked, 1);
    drop(raw);
    until(&broker, |state| state.queue("q").is_some_and(|q| (q.ready, q.unacked) == (1, 0)));
}
