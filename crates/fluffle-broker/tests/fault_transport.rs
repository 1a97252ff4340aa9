//! Network faults, as a client sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{ErrorKind, Read},
    time::{Duration, Instant},
};

use amq_protocol::protocol::{AMQPClass, queue};
use common::{DEADLINE, connect, raw::Raw, run, until};
use fluffle_broker::{Broker, Direction, Event, Fault, Rule, Target};

const AGES: Duration = Duration::from_secs(3600);

fn stall(direction: Direction) -> Fault {
    Fault::Stall { direction, time: AGES }
}

/// Does another client's work to its end. By then, the broker has done everything it had to do before.
fn others_are_served(broker: &Broker) {
    let mut other = Raw::with_channel(broker.address());
    other.declare("served");
    other.declare("served");
}

fn has_queue(broker: &Broker, name: &str) -> bool {
    broker.snapshot().unwrap().queue(name).is_some()
}

/// Checks that the connection ended without a reason.
fn is_cut(raw: &mut Raw) {
    assert_eq!(raw.read_close(), None);
}

#[test]
fn refused_connections_end_before_a_word_is_said() {
    let broker = Broker::start().unwrap();
    let refused = broker.faults().inject(Rule::new(Fault::Refuse).after(1).times(2)).unwrap();
    Raw::open(broker.address(), 0);
    for _ in 0..2 {
        is_cut(&mut Raw::bare(broker.address()));
    }
    refused.wait_fired(2, DEADLINE).unwrap();
    Raw::open(broker.address(), 0);
}

#[test]
fn cut_connections_end_without_a_word_all_some_or_one() {
    let broker = Broker::start().unwrap();
    let mut clients = ["a", "b", "c", "d"].map(|name| Raw::named(broker.address(), 0, name).and_channel());
    let [a, b, c, d] = &mut clients;
    assert_eq!(broker.faults().strike(Fault::Cut, Target::first(1)).unwrap().fired(), 1);
    is_cut(a);
    b.declare("b");
    assert_eq!(broker.faults().strike(Fault::Cut, Target::connection("c")).unwrap().fired(), 1);
    is_cut(c);
    d.declare("d");
    d.consume("d");
    assert_eq!(broker.faults().strike(Fault::Cut, Target::queue("d")).unwrap().fired(), 1);
    is_cut(d);
    b.declare("b");
    assert_eq!(broker.faults().strike(Fault::Cut, Target::all()).unwrap().fired(), 1);
    is_cut(b);
    until(&broker, |state| state.connections.is_empty());
}

#[test]
fn a_rule_cuts_after_so_many_frames_which_are_handled_and_none_after_them() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::named(broker.address(), 0, "doomed").and_channel();
    let rule = Rule::new(Fault::Cut).on_connection("doomed").after(2).times(1);
    let cut = broker.faults().inject(rule).unwrap();
    let mut spared = Raw::named(broker.address(), 0, "spared").and_channel();
    spared.declare("spared");
    let all: Vec<u8> =
        ["first", "second", "third", "fourth"].iter().flat_map(|name| Raw::declare_frame(name)).collect();
    raw.write(&all);
    is_cut(&mut raw);
    assert_eq!(cut.fired(), 1);
    let state = until(&broker, |state| state.connections.len() == 1);
    assert!(state.queue("third").is_some() && state.queue("fourth").is_none(), "{state:?}");
    spared.declare("spared");
}

#[test]
fn a_connection_is_cut_amidst_a_frame_when_so_many_bytes_have_passed() {
    let broker = Broker::start().unwrap();
    let cut = broker.faults().inject(Rule::new(Fault::Cut).after_bytes(Direction::ToClient, 100).times(1)).unwrap();
    let mut raw = Raw::bare(broker.address());
    raw.write(b"AMQP\x00\x00\x09\x01");
    let mut received = Vec::new();
    match raw.socket.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(received.len(), 100);
    assert_eq!(cut.fired(), 1);
    Raw::open(broker.address(), 0);
}

#[test]
fn half_open_nothing_is_answered_the_broker_gives_up_silently_and_healing_resets() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::open(broker.address(), 1).and_channel();
    let gone = broker.faults().strike(Fault::HalfOpen, Target::all()).unwrap();
    assert_eq!(gone.fired(), 1);
    raw.send_declare("q");
    // After two heartbeats the broker has dropped it. The client got no reason, and no heartbeat.
    until(&broker, |state| state.connections.is_empty());
    assert!(raw.hears_nothing());
    raw.send_declare("q");
    others_are_served(&broker);
    assert!(raw.hears_nothing() && !has_queue(&broker, "q"));
    gone.heal().unwrap();
    is_cut(&mut raw);
}

#[test]
fn half_open_from_the_start_the_client_waits_for_a_greeting_that_does_not_come() {
    let broker = Broker::start().unwrap();
    let rule = broker.faults().inject(Rule::new(Fault::HalfOpen).times(1)).unwrap();
    let mut raw = Raw::bare(broker.address());
    raw.write(b"AMQP\x00\x00\x09\x01");
    rule.wait_fired(1, DEADLINE).unwrap();
    others_are_served(&broker);
    assert!(raw.hears_nothing());
    broker.faults().heal_all().unwrap();
    assert!(raw.read_frame().is_none());
}

#[test]
fn a_half_open_connection_ends_with_its_client() {
    let broker = Broker::builder().connection_max(1).start().unwrap();
    let raw = Raw::open(broker.address(), 0);
    broker.faults().strike(Fault::HalfOpen, Target::all()).unwrap();
    drop(raw);
    until(&broker, |state| state.connections.is_empty());
    broker.stop().unwrap();
}

#[test]
fn a_stall_to_the_client_holds_answers_back_and_a_stall_to_the_broker_commands() {
    let broker = Broker::start().unwrap();
    for (direction, declared) in [(Direction::ToClient, true), (Direction::ToBroker, false), (Direction::Both, false)] {
        let name = format!("{direction:?}");
        let mut raw = Raw::named(broker.address(), 0, "stalled").and_channel();
        let stalled = broker.faults().strike(stall(direction), Target::connection("stalled")).unwrap();
        raw.send_declare(&name);
        if declared {
            until(&broker, |state| state.queue(&name).is_some());
        }
        others_are_served(&broker);
        assert!(raw.hears_nothing(), "{direction:?}");
        assert_eq!(has_queue(&broker, &name), declared, "{direction:?}");
        stalled.heal().unwrap();
        let (_, answer) = raw.read_method();
        assert!(matches!(answer, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))), "{answer:?}");
    }
}

#[test]
fn a_stall_holds_back_what_has_been_read_already_and_ends_by_itself() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    let time = Duration::from_millis(200);
    let rule = Rule::new(Fault::Stall { direction: Direction::ToBroker, time }).times(1);
    let stalled = broker.faults().inject(rule).unwrap();
    let start = Instant::now();
    raw.write(&[Raw::declare_frame("first"), Raw::declare_frame("second")].concat());
    raw.read_method();
    raw.read_method();
    assert!(start.elapsed() >= time, "the second command was not held back: {:?}", start.elapsed());
    assert_eq!(stalled.fired(), 1);
}

#[test]
fn with_a_delay_everything_takes_longer_until_it_is_healed() {
    let broker = Broker::start().unwrap();
    let time = Duration::from_millis(50);
    let mut raw = Raw::with_channel(broker.address());
    let one_way = Fault::Delay { direction: Direction::ToBroker, time };
    let one_way = broker.faults().strike(one_way, Target::all()).unwrap();
    for _ in 0..3 {
        // A delay counts from the arrival of the bytes, not from the first wait for them.
        std::thread::sleep(time / 2);
        let start = Instant::now();
        raw.declare("q");
        assert!(start.elapsed() >= time, "{:?}", start.elapsed());
    }
    one_way.heal().unwrap();

    let delayed =
        broker.faults().inject(Rule::new(Fault::Delay { direction: Direction::Both, time }).times(1)).unwrap();
    let mut raw = Raw::with_channel(broker.address());
    for _ in 0..2 {
        let start = Instant::now();
        raw.declare("q");
        assert!(start.elapsed() >= time * 2, "{:?}", start.elapsed());
    }
    broker.faults().strike(Fault::Delay { direction: Direction::Both, time: AGES }, Target::all()).unwrap();
    raw.send_declare("q");
    broker.faults().heal_all().unwrap();
    raw.read_method();
    assert_eq!(delayed.fired(), 1);
}

#[test]
fn a_slow_connection_passes_its_rate_each_way() {
    const BODY: usize = 20_000;
    let broker = Broker::start().unwrap();
    for direction in [Direction::ToBroker, Direction::ToClient] {
        let mut raw = Raw::with_channel(broker.address());
        raw.declare("q");
        let slow = Fault::Slow { direction, bytes_per_second: 50_000 };
        let slow = broker.faults().strike(slow, Target::all()).unwrap();
        let start = Instant::now();
        raw.publish_body("q", &[0; BODY]);
        raw.send_get("q");
        while raw.read_frame().is_some_and(|frame| !matches!(frame, amq_protocol::frame::AMQPFrame::Body(..))) {}
        // 20 kB at 50 kB a second; the last portion may pass at once.
        assert!(start.elapsed() >= Duration::from_millis(300), "{direction:?}: {:?}", start.elapsed());
        slow.heal().unwrap();
    }
}

#[test]
fn a_corrupt_frame_ends_with_a_wrong_octet_by_hand_and_by_rule() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::open(broker.address(), 0);
    broker.faults().strike(Fault::CorruptFrame, Target::all()).unwrap();
    let mut received = [0; 8];
    raw.socket.read_exact(&mut received).unwrap();
    assert_eq!(received[..7], [8, 0, 0, 0, 0, 0, 0]);
    assert_ne!(received[7], 0xCE);
    drop(raw);

    let mut raw = Raw::named(broker.address(), 0, "raw").and_channel();
    let corrupt =
        broker.faults().inject(Rule::new(Fault::CorruptFrame).on_connection("raw").after(1).times(1)).unwrap();
    raw.declare("q");
    raw.send_declare("q");
    let mut received = [0; 22];
    raw.socket.read_exact(&mut received).unwrap();
    assert_eq!((received[0], received[7..11].to_vec()), (1, vec![0, 50, 0, 11]), "not a queue.declare-ok");
    assert_ne!(received[21], 0xCE);
    assert_eq!(corrupt.fired(), 1);
}

#[test]
fn lapin_takes_a_corrupt_frame_for_the_end_of_its_connection() {
    let broker = Broker::start().unwrap();
    run(async {
        let connection = connect(&broker).await;
        let rule = Rule::new(Fault::CorruptFrame).at(Event::FrameOut).times(1);
        broker.faults().inject(rule).unwrap();
        connection.create_channel().await.unwrap_err();
        assert!(!connection.status().connected());
    });
}
