//! When rules fire, what they refuse, and what their history reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic};
use common::{DEADLINE, raw::Raw, until};
use fluffle_broker::{Broker, Direction, Event, Fault, FaultError, Proxy, Rule, Target};

const MESSAGES: usize = 200;

/// The messages that were nacked, under a seed.
fn nacked(seed: u64, others: impl Fn(&Broker)) -> (Vec<u64>, Vec<String>) {
    let broker = Broker::builder().fault_seed(seed).start().unwrap();
    let rule = Rule::new(Fault::Nack).on_queue("q").after(20).times(30).probability(0.3);
    broker.faults().inject(rule).unwrap();
    others(&broker);
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.select_confirms();
    raw.publish("q", MESSAGES);
    let (mut nacked, mut last) = (Vec::new(), 0);
    while last < MESSAGES as u64 {
        last = match raw.read_method().1 {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => ack.delivery_tag,
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                nacked.push(nack.delivery_tag);
                nack.delivery_tag
            }
            other => panic!("{other:?}"),
        };
    }
    (nacked, broker.faults().history().unwrap().iter().map(ToString::to_string).collect())
}

#[test]
fn the_same_seed_makes_the_same_faults_whatever_other_rules_do() {
    let (first, history) = nacked(7, |_| {});
    assert!(first.len() > 10 && first.len() <= 30, "{first:?}");
    assert!(first.iter().all(|tag| *tag > 20), "the first 20 are spared: {first:?}");
    assert_eq!(history.len(), first.len());
    assert_eq!(history[0], "#1 by 1: Nack at Published on 'raw'");
    assert_eq!(nacked(7, |_| {}), (first.clone(), history));
    let another = Rule::new(Fault::Return).probability(0.5);
    assert_eq!(nacked(7, |broker| drop(broker.faults().inject(another.clone()).unwrap())).0, first);
    assert_ne!(nacked(8, |_| {}).0, first);
}

#[test]
fn an_unsaid_seed_is_told_and_another_each_time() {
    let seeds = [Broker::start().unwrap(), Broker::start().unwrap()].map(|broker| broker.faults().seed());
    assert_ne!(seeds[0], seeds[1]);
    assert_eq!(Broker::builder().fault_seed(3).start().unwrap().faults().seed(), 3);
}

#[test]
fn a_rule_is_for_those_its_filters_name() {
    let broker = Broker::builder().user("eve", "secret").start().unwrap();
    let faults = broker.faults();
    let nack = || Rule::new(Fault::Nack);
    let rules = [
        (nack().on_queue("q"), 1),
        (nack().on_queue("other"), 0),
        (nack().on_exchange(""), 1),
        (nack().on_exchange("amq.direct"), 0),
        (nack().on_connection("me"), 1),
        (nack().on_connection("you"), 0),
        (nack().by_user("guest"), 1),
        (nack().by_user("eve"), 0),
    ];
    let mut raw = Raw::named(broker.address(), 0, "me").and_channel();
    raw.declare("q");
    raw.select_confirms();
    for (rule, expected) in rules {
        let handle = faults.inject(rule.clone()).unwrap();
        raw.publish("q", 1);
        raw.read_method();
        assert_eq!(handle.fired(), expected, "{rule:?}");
        handle.heal().unwrap();
        raw.publish("q", 1);
        raw.read_method();
        assert_eq!(handle.fired(), expected, "it was healed: {rule:?}");
    }
    assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().ready, 12);
}

#[test]
fn each_event_is_asked() {
    let broker = Broker::start().unwrap();
    let long = Fault::Stall { direction: Direction::Both, time: Duration::ZERO };
    let rules = [
        Event::Accepted,
        Event::Opened,
        Event::FrameIn,
        Event::FrameOut,
        Event::Published,
        Event::Delivered,
        Event::Settled,
    ]
    .map(|event| broker.faults().inject(Rule::new(long.clone()).at(event)).unwrap());
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    raw.consume("q");
    raw.publish("q", 1);
    raw.read_method();
    let ack = basic::Ack { delivery_tag: 1, multiple: false };
    raw.send(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
    until(&broker, |state| state.queue("q").unwrap().unacked == 0);
    raw.declare("q");
    // In: start-ok, tune-ok, open; channel.open, declare, consume, publish with header and body, ack, declare.
    // Out: start, tune, open-ok; channel.open-ok, declare-ok, consume-ok, deliver, declare-ok.
    assert_eq!(rules.map(|rule| rule.fired()), [1, 1, 11, 8, 1, 1, 1]);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let broker = Broker::start().unwrap();
    let inject = |rule: Rule| broker.faults().inject(rule).unwrap_err();
    let strike = |fault: Fault, target: Target| broker.faults().strike(fault, target).unwrap_err();
    let stall = Fault::Stall { direction: Direction::Both, time: Duration::ZERO };
    let close = Fault::CloseChannel { code: 406, text: String::new() };
    let restart = Fault::Restart { away: Duration::ZERO };
    use FaultError as E;
    assert!(matches!(inject(Rule::new(Fault::Nack).at(Event::FrameIn)), E::WrongEvent { fault: "Nack", .. }));
    assert!(matches!(inject(Rule::new(close).at(Event::Accepted)), E::WrongEvent { .. }));
    assert!(matches!(inject(Rule::new(Fault::Cut).on_queue("q")), E::WrongFilter { filter: "queue", .. }));
    assert!(matches!(inject(Rule::new(Fault::Cut).on_exchange("x")), E::WrongFilter { filter: "exchange", .. }));
    assert!(matches!(inject(Rule::new(Fault::Refuse).on_connection("c")), E::WrongFilter { .. }));
    assert!(matches!(inject(Rule::new(Fault::Refuse).by_user("u")), E::WrongFilter { filter: "user", .. }));
    assert!(matches!(inject(Rule::new(Fault::Nack).after_bytes(Direction::Both, 1)), E::WrongEvent { .. }));
    let late = Rule::new(stall.clone()).at(Event::FrameIn).after_bytes(Direction::Both, 1);
    assert!(matches!(inject(late), E::WrongBytes { fault: "Stall", .. }));
    for probability in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(inject(Rule::new(Fault::Cut).probability(probability)), E::OutOfRange { .. }));
    }
    let slow = Fault::Slow { direction: Direction::Both, bytes_per_second: 0 };
    assert!(matches!(inject(Rule::new(slow.clone())), E::OutOfRange { .. }));
    assert!(matches!(strike(slow, Target::all()), E::OutOfRange { .. }));
    assert!(matches!(strike(Fault::Return, Target::all()), E::NeedsRule { fault: "Return" }));
    assert!(matches!(strike(Fault::Refuse, Target::all()), E::NeedsRule { fault: "Refuse" }));
    assert!(matches!(strike(restart, Target::first(1)), E::NeedsAll { fault: "Restart" }));
    let text = inject(Rule::new(Fault::CorruptFrame).at(Event::Published)).to_string();
    assert_eq!(
        text,
        "CorruptFrame cannot happen at Published: choose one of [FrameOut], or leave `at` out for the first of them"
    );
}

#[test]
fn a_proxy_refuses_what_needs_a_broker() {
    let proxy = Proxy::start(([127, 0, 0, 1], 1).into()).unwrap();
    let faults = proxy.faults();
    let refusals = [
        faults.inject(Rule::new(Fault::Nack)),
        faults.inject(Rule::new(Fault::Cut).at(Event::Published)),
        faults.inject(Rule::new(Fault::Cut).on_queue("q")),
        faults.strike(Fault::CorruptFrame, Target::all()),
        faults.strike(Fault::Cut, Target::connection("c")),
        faults.strike(Fault::Cut, Target::queue("q")),
    ];
    for (index, refusal) in refusals.into_iter().enumerate() {
        let error = refusal.unwrap_err();
        let expected = if index == 2 { "no queue is known" } else { "needs the broker's help" };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn there_is_an_end_to_rules_and_healing_makes_room() {
    let broker = Broker::start().unwrap();
    let rule = || Rule::new(Fault::Refuse).times(0);
    for _ in 0..1000 {
        broker.faults().inject(rule()).unwrap();
    }
    assert!(matches!(broker.faults().inject(rule()), Err(FaultError::TooManyRules { most: 1000 })));
    broker.faults().heal_all().unwrap();
    broker.faults().inject(rule()).unwrap();
}

#[test]
fn who_waits_for_a_fault_gets_it_or_the_count() {
    let broker = Broker::start().unwrap();
    let rule = broker.faults().inject(Rule::new(Fault::Refuse).times(1)).unwrap();
    let error = rule.wait_fired(1, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, FaultError::NotFired { wanted: 1, fired: 0, .. }));
    let waiting = std::thread::spawn({
        let rule = rule.clone();
        move || rule.wait_fired(1, DEADLINE)
    });
    assert_eq!(Raw::bare(broker.address()).read_close(), None);
    waiting.join().unwrap().unwrap();
}

#[test]
fn the_history_keeps_the_last_10_000() {
    let broker = Broker::start().unwrap();
    let stall = Fault::Stall { direction: Direction::Both, time: Duration::ZERO };
    broker.faults().inject(Rule::new(stall).at(Event::Published)).unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.publish("nowhere", 10_010);
    raw.declare("q");
    let history = broker.faults().history().unwrap();
    assert_eq!((history.len(), history[0].number, history[9_999].number), (10_000, 11, 10_010));
}

#[test]
fn with_the_broker_gone_faults_say_so() {
    let broker = Broker::start().unwrap();
    let faults = broker.faults().clone();
    let rule = faults.inject(Rule::new(Fault::Refuse)).unwrap();
    drop(broker);
    assert!(matches!(faults.heal_all(), Err(FaultError::Gone)));
    assert!(matches!(rule.heal(), Err(FaultError::Gone)));
}
