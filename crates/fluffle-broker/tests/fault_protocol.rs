//! Faults of channels, messages, consumers and the broker, as a client sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use common::{
    DEADLINE, connect, consume, durable, publish,
    raw::{Raw, header_frame, publish_frame},
    run, until,
};
use fluffle_broker::{Broker, Event, Fault, Rule, Target};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

fn close_channel() -> Fault {
    Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - as told".to_owned() }
}

fn close_connection() -> Fault {
    Fault::CloseConnection { code: 541, text: "INTERNAL_ERROR - as told".to_owned() }
}

fn block() -> Fault {
    Fault::Block { reason: "low on patience".to_owned(), time: Duration::MAX }
}

/// A client with confirms, and a queue q.
fn publisher(broker: &Broker) -> Raw {
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.select_confirms();
    raw
}

/// The confirms received, each with its number, up to the one of `last`.
fn confirms_until(raw: &mut Raw, last: u64) -> Vec<(&'static str, u64, bool)> {
    let mut confirms = Vec::new();
    loop {
        let (kind, tag, multiple) = match raw.read_method() {
            (1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => ("ack", ack.delivery_tag, ack.multiple),
            (1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) => ("nack", nack.delivery_tag, nack.multiple),
            other => panic!("not a confirm: {other:?}"),
        };
        confirms.push((kind, tag, multiple));
        if tag == last {
            return confirms;
        }
    }
}

#[test]
fn a_connection_is_closed_with_the_code_as_told() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::open(broker.address(), 0);
    assert_eq!(broker.faults().strike(close_connection(), Target::all()).unwrap().fired(), 1);
    assert_eq!(raw.read_close(), Some(541));
    drop(raw);

    let mut raw = Raw::with_channel(broker.address());
    broker.faults().inject(Rule::new(close_connection()).after(1).times(1)).unwrap();
    let all: Vec<u8> = ["first", "second", "third"].iter().flat_map(|name| Raw::declare_frame(name)).collect();
    raw.write(&all);
    raw.read_method();
    raw.read_method();
    assert_eq!(raw.read_close(), Some(541));
    let state = broker.snapshot().unwrap();
    assert!(state.queue("second").is_some() && state.queue("third").is_none(), "{state:?}");
}

#[test]
fn a_channel_is_closed_by_hand_and_what_it_held_is_ready_again() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.consume("q");
    raw.publish("q", 3);
    until(&broker, |state| state.queue("q").unwrap().unacked == 3);
    assert_eq!(broker.faults().strike(close_channel(), Target::queue("q")).unwrap().fired(), 1);
    assert_eq!(raw.read_channel_close(), (406, "PRECONDITION_FAILED - as told".to_owned()));
    let state = broker.snapshot().unwrap();
    let queue = state.queue("q").unwrap();
    assert_eq!((queue.ready, queue.unacked, queue.consumers), (3, 0, 0));
    assert_eq!(broker.faults().strike(close_channel(), Target::all()).unwrap().fired(), 0, "it is closed already");
    assert_eq!(state.connections.len(), 1, "the connection stands");
}

#[test]
fn a_rule_closes_the_channel_that_publishes_to_the_queue_after_its_confirms() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    raw.declare("spared");
    broker.faults().inject(Rule::new(close_channel()).on_queue("q").after(1).times(1)).unwrap();
    raw.publish("spared", 2);
    raw.publish("q", 4);
    assert_eq!(confirms_until(&mut raw, 4).last().unwrap().1, 4);
    assert_eq!(raw.read_channel_close().0, 406);
    let state = broker.snapshot().unwrap();
    assert_eq!(state.queue("q").unwrap().ready, 2, "what comes on a closed channel is ignored");
}

#[test]
fn nothing_follows_the_end_of_a_channel_on_it() {
    let broker = Broker::start().unwrap();
    // The answer to a command whose deliveries closed the channel must not be sent.
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.consume("q");
    raw.publish("q", 1);
    raw.read_method();
    broker.faults().inject(Rule::new(close_channel()).at(Event::Delivered).times(1)).unwrap();
    raw.send(1, AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true })));
    ends_once(raw);

    // The refusal of a command must not be sent if the channel was closed before it.
    let mut raw = publisher(&broker);
    broker.faults().inject(Rule::new(close_channel()).at(Event::FrameOut).times(1)).unwrap();
    let mut both = publish_frame(1, "q");
    both.extend([header_frame(1, 0), Raw::declare_frame("amq.not-for-you")].concat());
    raw.write(&both);
    ends_once(raw);
}

/// The channel is closed, and nothing comes on it until it is opened again.
fn ends_once(mut raw: Raw) {
    assert_eq!(raw.read_channel_close().0, 406);
    raw.send(1, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
    raw.send(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    let (_, answer) = raw.read_method();
    assert!(matches!(answer, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))), "{answer:?}");
}

#[test]
fn a_dropped_confirm_never_comes_and_no_later_one_covers_it() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    let dropped = broker.faults().inject(Rule::new(Fault::DropConfirm).after(1).times(1)).unwrap();
    raw.publish("q", 5);
    let told = confirms_until(&mut raw, 5);
    assert_eq!(told, [1, 3, 4, 5].map(|tag| ("ack", tag, false)));
    assert_eq!((dropped.fired(), broker.snapshot().unwrap().queue("q").unwrap().ready), (1, 5));
}

#[test]
fn a_delayed_confirm_comes_after_those_behind_it() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    let time = Duration::from_millis(500);
    broker.faults().inject(Rule::new(Fault::DelayConfirm { time }).times(1)).unwrap();
    let start = std::time::Instant::now();
    raw.publish("q", 3);
    let told = confirms_until(&mut raw, 1);
    assert_eq!(told, [2, 3, 1].map(|tag| ("ack", tag, false)));
    assert!(start.elapsed() >= time - Duration::from_millis(1), "{:?}", start.elapsed());
    // When no confirm is withheld, one confirm covers several messages again.
    raw.publish("q", 3);
    assert_eq!(confirms_until(&mut raw, 6).last(), Some(&("ack", 6, true)));
}

#[test]
fn a_nacked_message_is_not_in_the_queue() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    let mut careless = Raw::with_channel(broker.address());
    let nacked = broker.faults().inject(Rule::new(Fault::Nack).after(1).times(1)).unwrap();
    // Without confirms the rule does not count the event.
    careless.publish("q", 3);
    until(&broker, |state| state.queue("q").unwrap().ready == 3);
    raw.publish("q", 3);
    assert_eq!(confirms_until(&mut raw, 3), [("ack", 1, false), ("nack", 2, false), ("ack", 3, false)]);
    assert_eq!((nacked.fired(), broker.snapshot().unwrap().queue("q").unwrap().ready), (1, 5));
}

#[test]
fn a_returned_message_comes_back_with_312_and_is_confirmed() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = common::channel(&broker).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        durable(&channel, "q").await;
        let returned = broker.faults().inject(Rule::new(Fault::Return).times(1)).unwrap();
        publish(&channel, "q", b"not mandatory", true).await;
        assert_eq!(returned.fired(), 0);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel
            .basic_publish("".into(), "q".into(), options, b"m", BasicProperties::default())
            .await
            .unwrap()
            .await
            .unwrap();
        let Confirmation::Ack(Some(message)) = confirm else { panic!("{confirm:?}") };
        assert_eq!((message.reply_code, &message.delivery.data[..]), (312, &b"m"[..]));
        assert_eq!((returned.fired(), broker.snapshot().unwrap().queue("q").unwrap().ready), (1, 1));
    });
}

#[test]
fn cancelled_consumers_are_told_by_hand_and_by_rule() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = common::channel(&broker).await;
        durable(&channel, "q").await;
        let (mut first, mut second) = (consume(&channel, "q").await, consume(&channel, "q").await);
        let struck = broker.faults().strike(Fault::CancelConsumer, Target::queue("q")).unwrap();
        assert_eq!(struck.fired(), 2);
        assert!(first.next().await.is_none() && second.next().await.is_none());
        assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().consumers, 0);

        broker.faults().inject(Rule::new(Fault::CancelConsumer).on_queue("q").after(1).times(1)).unwrap();
        let mut third = consume(&channel, "q").await;
        for _ in 0..3 {
            publish(&channel, "q", b"m", true).await;
        }
        assert!(third.next().await.is_some() && third.next().await.is_some() && third.next().await.is_none());
        let state = until(&broker, |state| state.queue("q").unwrap().ready == 1);
        assert_eq!(state.queue("q").unwrap().unacked, 2, "what it holds stays with its channel");
    });
}

#[test]
fn a_fault_at_a_settlement_or_delivery_comes_after_it() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.consume("q");
    raw.publish("q", 2);
    until(&broker, |state| state.queue("q").unwrap().unacked == 2);
    broker.faults().inject(Rule::new(Fault::Cut).at(Event::Settled).on_queue("q").times(1)).unwrap();
    let ack = basic::Ack { delivery_tag: 1, multiple: false };
    raw.send(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
    assert_eq!(raw.read_close(), None);
    until(&broker, |state| state.queue("q").is_some_and(|q| (q.ready, q.unacked) == (1, 0)));

    let mut raw = Raw::with_channel(broker.address());
    broker.faults().inject(Rule::new(Fault::Cut).at(Event::Delivered).times(1)).unwrap();
    raw.send_consume("q");
    while let Some(frame) = raw.read_frame() {
        assert!(!format!("{frame:?}").contains("Deliver"), "the client saw what was cut: {frame:?}");
    }
    until(&broker, |state| state.queue("q").is_some_and(|q| (q.ready, q.unacked) == (1, 0)));
}

#[test]
fn blocked_whoever_publishes_is_told_and_not_read_and_the_others_go_on() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    let mut consumer = Raw::with_channel(broker.address());
    let alarm = broker.faults().strike(block(), Target::all()).unwrap();
    consumer.consume("q");
    raw.declare("still read");
    raw.publish("q", 2);
    let (_, blocked) = raw.read_method();
    let AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) = blocked else { panic!("{blocked:?}") };
    assert_eq!(blocked.reason.as_str(), "low on patience");
    raw.send_declare("not read");
    // Like RabbitMQ, the broker stops reading at the content header of the message.
    consumer.declare("read");
    assert!(broker.snapshot().unwrap().queue("not read").is_none());
    assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().unacked, 0);
    alarm.heal().unwrap();
    let (_, unblocked) = raw.read_method();
    assert!(matches!(unblocked, AMQPClass::Connection(connection::AMQPMethod::Unblocked(_))), "{unblocked:?}");
    until(&broker, |state| state.queue("not read").is_some() && state.queue("q").unwrap().unacked == 2);
}

#[test]
fn a_blocked_client_is_not_taken_for_dead_and_hears_of_a_stop() {
    let broker = Broker::start().unwrap();
    let mut raw = Raw::open(broker.address(), 1).and_channel();
    broker.faults().strike(block(), Target::all()).unwrap();
    raw.publish("q", 1);
    // A client that is not blocked, and is as silent, is dropped in this time.
    let mut silent = Raw::open(broker.address(), 1);
    while silent.read_frame().is_some() {}
    assert_eq!(broker.snapshot().unwrap().connections.len(), 1);
    broker.stop().unwrap();
    assert_eq!(raw.read_close(), Some(320));
}

#[test]
fn an_alarm_by_rule_ends_after_its_time() {
    let broker = Broker::start().unwrap();
    let mut raw = publisher(&broker);
    let fault = Fault::Block { reason: "low on time".to_owned(), time: Duration::from_millis(50) };
    let rule = broker.faults().inject(Rule::new(fault).on_queue("q").times(1)).unwrap();
    raw.publish("q", 2);
    let mut seen = Vec::new();
    while !seen.iter().any(|name| name == "Ack2") {
        seen.push(match raw.read_method().1 {
            AMQPClass::Connection(connection::AMQPMethod::Blocked(_)) => "Blocked".to_owned(),
            AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => "Unblocked".to_owned(),
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => format!("Ack{}", ack.delivery_tag),
            other => panic!("{other:?}"),
        });
    }
    // The rule fires when the first message is complete; the second is stopped at its header.
    assert_eq!(seen, ["Blocked", "Ack1", "Unblocked", "Ack2"]);
    assert_eq!(rule.fired(), 1);
}

#[test]
fn past_the_memory_limit_publishers_are_blocked_until_consumers_have_made_room() {
    const BODY: usize = 10_000;
    let broker = Broker::builder().memory_limit(100_000).start().unwrap();
    let mut raw = publisher(&broker);
    let mut consumer = Raw::with_channel(broker.address());
    for _ in 0..40 {
        raw.publish_body("q", &[0; BODY]);
    }
    let mut blocked = None;
    while blocked.is_none() {
        if let AMQPClass::Connection(connection::AMQPMethod::Blocked(method)) = raw.read_method().1 {
            blocked = Some(method.reason.as_str().to_owned());
        }
    }
    assert_eq!(blocked.as_deref(), Some("low on memory"));
    let held = broker.snapshot().unwrap().queue("q").unwrap().ready;
    // The limit is checked after each buffer, so a whole buffer may exceed it.
    assert!((9..36).contains(&held), "{held}");
    // Deliveries free no memory; acknowledgements do.
    consumer.consume("q");
    consumer.declare("q");
    assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().unacked, held);
    for _ in 0..10 {
        let ack = basic::Ack { delivery_tag: 0, multiple: true };
        consumer.send(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
        consumer.declare("q");
    }
    while !matches!(raw.read_method().1, AMQPClass::Connection(connection::AMQPMethod::Unblocked(_))) {}
    loop {
        let ack = basic::Ack { delivery_tag: 0, multiple: true };
        consumer.send(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
        match raw.read_method().1 {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) if ack.delivery_tag == 40 => break,
            _ => {}
        }
    }
}

#[test]
fn lapin_sees_blocked_and_unblocked() {
    let broker = Broker::start().unwrap();
    run(async {
        let connection = connect(&broker).await;
        let channel = connection.create_channel().await.unwrap();
        durable(&channel, "q").await;
        let alarm = broker.faults().strike(block(), Target::all()).unwrap();
        let properties = BasicProperties::default();
        channel.basic_publish("".into(), "q".into(), Default::default(), b"m", properties).await.unwrap();
        while !connection.status().blocked() {
            tokio::task::yield_now().await;
        }
        alarm.heal().unwrap();
        while connection.status().blocked() {
            tokio::task::yield_now().await;
        }
        until(&broker, |state| state.queue("q").unwrap().ready == 1);
    });
}

#[test]
fn the_broker_goes_away_with_and_without_a_word_and_comes_back_by_itself() {
    let away = Duration::from_millis(50);
    for (fault, word) in [(Fault::Restart { away }, Some(320)), (Fault::Crash { away }, None)] {
        let broker = Broker::start().unwrap();
        run(async { durable(&common::channel(&broker).await, "kept").await });
        let mut raw = Raw::with_channel(broker.address());
        let rule = broker.faults().inject(Rule::new(fault.clone()).at(Event::Published).times(1)).unwrap();
        raw.publish("kept", 1);
        assert_eq!(raw.read_close(), word, "{fault}");
        rule.wait_fired(1, DEADLINE).unwrap();
        comes_back(&broker);

        let mut raw = Raw::with_channel(broker.address());
        broker.faults().strike(fault.clone(), Target::all()).unwrap();
        assert_eq!(raw.read_close(), word, "{fault}");
        comes_back(&broker);
        assert!(broker.snapshot().unwrap().queue("kept").is_some());
    }
}

#[test]
fn an_owner_who_starts_the_broker_need_not_wait_for_it() {
    let broker = Broker::start().unwrap();
    let away = Duration::from_secs(3600);
    broker.faults().strike(Fault::Crash { away }, Target::all()).unwrap();
    until_port(&broker, false);
    broker.start_again().unwrap();
    Raw::open(broker.address(), 0);
}

fn comes_back(broker: &Broker) {
    until_port(broker, true);
    Raw::open(broker.address(), 0);
}

fn until_port(broker: &Broker, open: bool) {
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(broker.address()).is_ok() != open {
        assert!(start.elapsed() < DEADLINE, "the port should be open: {open}");
        std::thread::yield_now();
    }
}
