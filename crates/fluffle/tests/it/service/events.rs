//! What observers hear: every event of a delivery's and of a message's life, in its order and with its values.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use fluffle::{
    amqp::{
        ChannelEvent, ChannelLabels, ConnectionEvent, ConnectionLabels, ConsumerLabels, DeliveryEvent, Listener,
        Observer, PublishEvent, PublishResult, PublisherLabels, SettledMessages,
    },
    broker::{Fault, Target},
    prelude::*,
    supervise::{Event, NodeSnapshot},
    testing::TestBroker,
};
use tokio::sync::Notify;

use super::heard::{Heard, of};
use crate::support::*;

/// The kind of each event, and what became of the messages.
fn outline(events: &[DeliveryEvent]) -> Vec<String> {
    let outline = events.iter().map(|event| match event {
        DeliveryEvent::Received { redelivered, .. } if *redelivered => "received again".to_owned(),
        DeliveryEvent::Settled { messages, .. } => {
            let SettledMessages { handled, retried, dead_lettered, dropped, .. } = *messages;
            let counts = [(handled, "handled"), (retried, "retried"), (dead_lettered, "dead"), (dropped, "dropped")];
            let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(" {count} {what}"));
            assert_eq!(messages.total(), handled + retried + dead_lettered + dropped);
            format!("settled:{}", words.collect::<String>())
        }
        DeliveryEvent::Answered { messages, failed, .. } => format!("answered: {failed} of {messages} failed"),
        DeliveryEvent::Crashed { messages, .. } => format!("crashed: {messages}"),
        DeliveryEvent::AckLost { messages, .. } => format!("ack lost: {messages}"),
        DeliveryEvent::Lost { deliveries, .. } => format!("lost: {deliveries}"),
        DeliveryEvent::Batch { items, .. } => format!("batch: {items}"),
        DeliveryEvent::Started { again, .. } if *again => "started again".to_owned(),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase(),
    });
    outline.collect()
}

#[actix::test]
async fn a_handled_delivery_is_received_started_answered_and_settled_with_its_times() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Block(Duration::from_millis(30)));
    let service = started(heard.by(app).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    let events = heard.settled(1).await;
    let [
        DeliveryEvent::Received { bytes, redelivered: false, .. },
        DeliveryEvent::Started { waited, again: false, .. },
        DeliveryEvent::Answered { took: handler, messages: 1, failed: 0, .. },
        DeliveryEvent::Settled { messages, took, after_answer: Some(after_answer), .. },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((bytes, messages.handled, messages.total()), (encoded("a").0.len(), 1, 1));
    assert!(handler >= Duration::from_millis(30), "{events:?}");
    assert_eq!(took, waited + handler + after_answer, "the stages are the whole");
    service.shutdown().await.unwrap();
    assert_eq!(of(&heard.deliveries, "q").len(), 4, "nothing happens to it afterwards");
}

#[actix::test]
async fn each_way_a_delivery_can_fail_is_heard_of_in_its_order() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("rejected", _) => Act::Err(Failure::reject("never")),
        ("fails once", 1) => Act::Err(Failure::retry("not yet")),
        ("crashes once", 1) => Act::Panic,
        _ => Act::Ok,
    });
    let service = started(heard.by(app).consume(Consume::queue("q").retry(retry(3)), factory)).await;
    let mut before = 0;
    let handled = ["received", "started", "answered: 0 of 1 failed", "settled: 1 handled"];
    let failed = |settled| vec!["received", "started", "answered: 1 of 1 failed", settled];
    let crashed = ["received", "started", "crashed: 1", "answered: 1 of 1 failed", "settled: 1 retried"];
    let table = [
        ("fails once", 2, [failed("settled: 1 retried"), handled.to_vec()].concat()),
        ("rejected", 1, failed("settled: 1 dead")),
        ("crashes once", 2, [crashed.to_vec(), handled.to_vec()].concat()),
    ];
    let mut settled = 0;
    for (text, deliveries, expected) in table {
        publish(&out, &[text]).await;
        settled += deliveries;
        let events = heard.settled(settled).await;
        assert_eq!(outline(&events[before..]), expected, "{text}");
        before = events.len();
    }
    until("the handler is restarted", || of(&heard.nodes, "app/handlers/q/0") == ["restarting"]).await;
    let copies = of(&heard.messages, "q/copies");
    let confirmed =
        |event: &&PublishEvent| matches!(event, PublishEvent::Settled { result: PublishResult::Confirmed, .. });
    assert_eq!(copies.iter().filter(confirmed).count(), 3, "two retries and a dead letter: {copies:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_is_one_delivery_with_the_counts_of_its_messages() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (factory, _record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("rejected", _) => Act::Err(Failure::reject("never")),
        _ => Act::Ok,
    });
    let service = started(heard.by(app_with_q(vhost.url())).consume(Consume::queue("q"), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "batch", &["a", "rejected", "b"]).await;
    let expected = ["received", "started", "batch: 3", "answered: 1 of 3 failed", "settled: 2 handled 1 dead"];
    assert_eq!(outline(&heard.settled(1).await), expected);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_whose_items_are_sorted_by_key_is_started_once() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (factory, _record) = handlers(|_| Act::Ok);
    let consume = Consume::queue("q").ordered_by(key).instances(2);
    let service = started(heard.by(app_with_q(vhost.url())).consume(consume, factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "batch", &["a", "b", "c", "d"]).await;
    let expected = ["received", "started", "batch: 4", "answered: 0 of 4 failed", "settled: 4 handled"];
    assert_eq!(outline(&heard.settled(1).await), expected);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_attempt_repeated_in_the_process_says_so() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let in_process = retry(2).in_process_below(Duration::from_secs(1)).unwrap();
    let service = started(heard.by(app).consume(Consume::queue("q").retry(in_process), factory)).await;
    publish(&out, &["a"]).await;
    let expected = [
        "received",
        "started",
        "answered: 1 of 1 failed",
        "retriedhere",
        "started again",
        "answered: 0 of 1 failed",
        "settled: 1 handled",
    ];
    assert_eq!(outline(&heard.settled(1).await), expected);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_answer_past_its_time_is_late_and_at_most_once_drops() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let consume = Consume::queue("q").guarantee(AtMostOnce).handler_timeout(Duration::from_millis(100));
    let service = started(heard.by(app).consume(consume, factory)).await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    heard.settled(1).await;
    go.notify_waiters();
    until("it is late", || of(&heard.deliveries, "q").len() == 5).await;
    let events = of(&heard.deliveries, "q");
    assert_eq!(outline(&events), ["received", "started", "answered: 1 of 1 failed", "settled: 1 dropped", "late"]);
    assert!(matches!(events[2], DeliveryEvent::Answered { took, .. } if took >= Duration::from_millis(100)));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_connection_is_heard_of_by_the_delivery_the_channel_and_the_connection() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(heard.by(app).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    vhost.close_connections("a test");
    assert!(next(&mut record).await.redelivered);
    go.notify_waiters();
    let is_lost = |event: &DeliveryEvent| matches!(event, DeliveryEvent::AckLost { .. });
    until("the first ack is lost", || of(&heard.deliveries, "q").iter().any(is_lost)).await;
    let mut outline = outline(&heard.settled(1).await);
    assert_eq!(outline[..5], ["received", "started", "lost: 1", "received again", "started"]);
    outline[5..].sort();
    let answered = "answered: 0 of 1 failed";
    assert_eq!(outline[5..], ["ack lost: 1", answered, answered, "settled: 1 handled"]);
    service.shutdown().await.unwrap();

    let channel = of(&heard.channels, "q on consume-0");
    let [
        ChannelEvent::Opened { generation: 1, .. },
        ChannelEvent::Lost { .. },
        ChannelEvent::Opened { generation: 2, .. },
        ChannelEvent::Closed,
    ] = channel[..]
    else {
        panic!("{channel:?}")
    };
    for name in ["consume-0", "publish-0"] {
        let connection = of(&heard.connections, name);
        let [
            ConnectionEvent::Connected { took, .. },
            ConnectionEvent::Lost { code: Some(320), .. },
            ConnectionEvent::Connected { .. },
            ConnectionEvent::Closed,
        ] = connection[..]
        else {
            panic!("{name}: {connection:?}")
        };
        assert!(took > Duration::ZERO);
    }
}

#[actix::test]
async fn a_channel_that_the_broker_closes_is_lost_with_the_brokers_code() {
    let (vhost, heard) = (vhost(), Heard::default());
    let app = heard.by(app_with_q(vhost.url()));
    let out = app.publisher::<String>(Route::exchange("nobody-made-this"));
    let service = started(app).await;
    soon("the refusal", out.publish("a".to_owned())).await.unwrap_err();
    let channel = of(&heard.channels, "nobody-made-this on publish-0");
    assert!(matches!(channel[1], ChannelEvent::Lost { code: Some(404), .. }), "{channel:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_published_message_is_accepted_and_settled_by_its_outcome() {
    let (vhost, heard) = (vhost(), Heard::default());
    let topology = Topology::new().exchange(Exchange::direct("x")).queue(Queue::quorum("q").bind("x", "q"));
    let app = heard.by(App::new(broker(vhost.url())).topology(topology));
    let out = app.publisher::<String>(Route::exchange("x").key_by(|text: &String| text.clone()));
    // Before there is a service, and before the listener: it is heard of all the same.
    let early = out.enqueue("q".to_owned()).await.unwrap();
    let service = started(app).await;
    soon("confirmed", early.confirmed()).await.unwrap();
    publish(&out, &["q"]).await;
    out.publish("nowhere".to_owned()).await.unwrap_err();
    until("all are settled", || of(&heard.messages, "x").len() == 6).await;
    let events = of(&heard.messages, "x");
    for (pair, result, text) in [
        (&events[..2], PublishResult::Confirmed, "q"),
        (&events[2..4], PublishResult::Confirmed, "q"),
        (&events[4..], PublishResult::Returned, "nowhere"),
    ] {
        let [
            PublishEvent::Accepted { messages: 1, .. },
            PublishEvent::Settled { result: heard, messages: 1, bytes, took, on_the_wire: Some(on_the_wire), .. },
        ] = pair
        else {
            panic!("{pair:?}")
        };
        assert_eq!((*heard, *bytes), (result, encoded(text).0.len()));
        assert!(took.is_some_and(|took| took >= *on_the_wire && !on_the_wire.is_zero()), "{pair:?}");
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn through_lost_connections_what_is_received_and_accepted_is_all_accounted_for() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    // Slow enough that each lost connection takes deliveries with it.
    let (factory, mut record) = handlers(|_| Act::Block(Duration::from_millis(2)));
    let consume = Consume::queue("q").prefetch(20);
    let service = started(heard.by(app).consume(consume, factory)).await;
    let publishing = out.clone();
    let sent = actix::spawn(async move {
        let numbers = (0..300).map(|number| publishing.publish(number.to_string()));
        futures_util::future::join_all(numbers).await.into_iter().for_each(|one| drop(one.unwrap()));
    });
    for _ in 0..2 {
        for _ in 0..50 {
            next(&mut record).await;
        }
        vhost.close_connections("a test");
    }
    soon("all are published", sent).await.unwrap();
    let handled = |event: DeliveryEvent| match event {
        DeliveryEvent::Settled { messages, .. } => messages.handled,
        _ => 0,
    };
    let all = || of(&heard.deliveries, "q").into_iter().map(handled).sum::<usize>();
    until("as many are handled as were published", || all() >= 300).await;
    service.shutdown().await.unwrap();

    let (mut received, mut settled, mut lost) = (0, 0, 0);
    for event in of(&heard.deliveries, "q") {
        match event {
            DeliveryEvent::Received { .. } => received += 1,
            DeliveryEvent::Lost { deliveries, .. } => lost += deliveries,
            DeliveryEvent::Settled { .. } => settled += 1,
            _ => {}
        }
    }
    assert_eq!(received, settled + lost, "in deliveries");
    assert!(lost > 0, "each connection took some with it");
    let (mut accepted, mut settled) = (0, HashMap::<PublishResult, usize>::new());
    for event in of(&heard.messages, "q") {
        match event {
            PublishEvent::Accepted { messages, .. } => accepted += messages,
            PublishEvent::Settled { result, messages, .. } => *settled.entry(result).or_default() += messages,
            _ => {}
        }
    }
    assert_eq!((accepted, settled), (300, HashMap::from([(PublishResult::Confirmed, 300)])));
}

/// Panics over each event.
struct Panics;

impl Panics {
    fn over<E: Debug>() -> Option<Listener<E>> {
        Some(Arc::new(|event: &E| panic!("over {event:?}")))
    }
}

impl Observer for Panics {
    fn consumer(&self, _: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        Self::over()
    }

    fn publisher(&self, _: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        Self::over()
    }

    fn channel(&self, _: &ChannelLabels<'_>) -> Option<Listener<ChannelEvent>> {
        Self::over()
    }

    fn connection(&self, _: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
        Self::over()
    }

    fn nodes(&self) -> Option<Listener<Event>> {
        Self::over()
    }
}

/// Of a node and of all below it.
fn restarts(node: &NodeSnapshot) -> u64 {
    node.restarts + node.children.iter().map(restarts).sum::<u64>()
}

#[actix::test]
async fn an_observer_that_panics_costs_no_message_and_no_restart() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let app = heard.by(app.observe(Arc::new(Panics)));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a", "b"]).await;
    assert_eq!(outline(&heard.settled(2).await).len(), 8, "the other observer hears of everything");
    let tree = service.snapshot();
    assert_eq!(restarts(&tree), 0, "{tree}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_connection_says_so_and_when_it_is_over() {
    let (embedded, heard) = (TestBroker::start().unwrap(), Heard::default());
    let app = heard.by(App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q"))));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
    let alarm = embedded.faults().strike(alarm, Target::all()).unwrap();
    // Only a connection that publishes is told.
    let waiting = out.enqueue("a".to_owned()).await.unwrap();
    let blocked = || of(&heard.connections, "publish-0").contains(&ConnectionEvent::Blocked);
    until("it is blocked", blocked).await;
    alarm.heal().unwrap();
    until("it goes on", || of(&heard.connections, "publish-0").contains(&ConnectionEvent::Unblocked)).await;
    soon("confirmed", waiting.confirmed()).await.unwrap();
    service.shutdown().await.unwrap();
}
