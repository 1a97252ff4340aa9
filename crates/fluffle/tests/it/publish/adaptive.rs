//! A publisher whose batches form by themselves: what travels by itself, what shares an envelope, and that neither
//! order nor outcome depends on it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use fluffle::{
    amqp::{Receipt, trace},
    broker::{Fault, Rule},
    prelude::*,
    testing::TestBroker,
    wire::{
        Incoming, Wire,
        headers::{ITEM_TRACES, TRACEPARENT, TraceContext},
    },
};
use futures_util::{FutureExt, future::join_all};
use tokio::sync::mpsc;

use crate::support::*;

/// A linger so long that it never makes a batch go out.
const NEVER: Duration = Duration::from_secs(60);

fn app(url: &str) -> App {
    App::new(broker(url)).topology(
        Topology::new()
            .exchange(Exchange::direct("x"))
            .queue(Queue::quorum("q").bind("x", "q"))
            .queue(Queue::quorum("other").bind("x", "other")),
    )
}

/// A message of the broker: an envelope, or a single message of Fluffle.
struct Travelled {
    id: String,
    is_envelope: bool,
    texts: Vec<String>,
}

impl Travelled {
    fn open(DeadLetter { body, properties }: DeadLetter) -> Self {
        let short = |property: &Option<lapin::types::ShortString>| property.as_ref().map(|text| text.to_string());
        let (label, kind) = (short(properties.content_type()), short(properties.kind()));
        let encoding = short(properties.content_encoding());
        let body = body.into();
        let incoming = Incoming {
            content_type: label.as_deref(),
            content_encoding: encoding.as_deref(),
            type_name: kind.as_deref(),
            headers: None,
            body: &body,
        };
        let (wire, is_envelope) = (Wire::<String>::protobuf(), incoming.is_batch());
        let texts = if is_envelope {
            wire.decode_batch(&incoming).unwrap().iter().map(Result::unwrap).collect()
        } else {
            vec![wire.decode(&incoming).unwrap()]
        };
        Self { id: short(properties.message_id()).unwrap(), is_envelope, texts }
    }

    /// The texts with the ids that a handler sees.
    fn messages(&self) -> Vec<(String, String)> {
        let id = |index| if self.is_envelope { format!("{}/{index}", self.id) } else { self.id.clone() };
        self.texts.iter().enumerate().map(|(index, text)| (id(index), text.clone())).collect()
    }
}

/// All that is in a queue.
async fn travelled(raw: &Raw, queue: &str) -> Vec<Travelled> {
    let mut all = Vec::new();
    for _ in 0..raw.ready(queue).await {
        all.push(Travelled::open(raw.take(queue).await));
    }
    all
}

fn texts(travelled: &[Travelled]) -> Vec<&[String]> {
    travelled.iter().map(|one| &one.texts[..]).collect()
}

async fn enqueue(out: &Publisher<String>, texts: impl IntoIterator<Item = usize>) -> Vec<Receipt<String>> {
    let mut receipts = Vec::new();
    for text in texts {
        receipts.push(soon("room", out.enqueue(text.to_string())).await.unwrap());
    }
    receipts
}

async fn confirmed(receipts: Vec<Receipt<String>>) -> Vec<String> {
    let all = join_all(receipts.into_iter().map(|receipt| receipt.confirmed()));
    soon("all confirmed", all).await.into_iter().map(|confirmed| confirmed.unwrap().id.to_string()).collect()
}

#[actix::test]
async fn at_a_low_rate_each_message_travels_by_itself_under_an_id_of_its_own() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::adaptive().linger(NEVER)));
    let service = started(app).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let published = if number % 2 == 0 {
            soon("confirmed", out.publish(number.to_string())).await
        } else {
            soon("confirmed", out.try_enqueue(number.to_string()).unwrap().confirmed()).await
        };
        ids.push(published.unwrap().id.to_string());
    }
    service.shutdown().await.unwrap();
    let sent = travelled(&Raw::connect(vhost.url()).await, "q").await;
    assert!(sent.iter().all(|one| !one.is_envelope && !one.id.contains('/')));
    let expected: Vec<_> = ids.into_iter().zip((0..20).map(|number: usize| number.to_string())).collect();
    assert_eq!(sent.iter().flat_map(Travelled::messages).collect::<Vec<_>>(), expected);
    assert_eq!((out.stats().accepted, out.stats().confirmed), (20, 20));
}

#[actix::test]
async fn under_load_messages_share_envelopes_and_each_receipt_is_confirmed() {
    const MANY: usize = 6_000;
    for gzip in [Gzip::Off, Gzip::auto()] {
        let vhost = vhost();
        let app = app(vhost.url());
        let out = app.publisher::<String>(Route::queue("q").batch(Batching::adaptive()).gzip(gzip));
        let service = started(app).await;
        let ids = confirmed(enqueue(&out, 0..MANY).await).await;
        service.shutdown().await.unwrap();
        let sent = travelled(&Raw::connect(vhost.url()).await, "q").await;
        assert!(sent.len() < MANY / 3, "{} messages of the broker for {MANY}", sent.len());
        assert!(!sent[0].is_envelope, "nothing was unconfirmed before the first");
        let expected: Vec<_> = ids.into_iter().zip((0..MANY).map(|number| number.to_string())).collect();
        assert_eq!(sent.iter().flat_map(Travelled::messages).collect::<Vec<_>>(), expected);
        assert_eq!((out.stats().accepted, out.stats().confirmed, out.stats().outstanding), (6_000, 6_000, 0));
    }
}

#[actix::test]
async fn a_confirm_sends_what_has_gathered_meanwhile() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url());
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::adaptive().linger(NEVER)));
    let service = started(app).await;
    // The first message of a key goes alone on each channel anyway.
    soon("confirmed", out.publish("0".to_owned())).await.unwrap();
    let late = Rule::new(Fault::DelayConfirm { time: Duration::from_millis(300) }).on_queue("q").times(1);
    broker.faults().inject(late).unwrap();
    let receipts = enqueue(&out, 1..6).await;
    confirmed(receipts).await;
    service.shutdown().await.unwrap();
    let sent = travelled(&Raw::connect(&broker.url()).await, "q").await;
    assert_eq!(texts(&sent), [vec!["0"], vec!["1"], vec!["2", "3", "4", "5"]]);
}

#[actix::test]
async fn what_has_gathered_does_not_wait_for_a_confirm_that_never_comes() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url());
    let route = Route::queue("q").batch(Batching::adaptive()).confirm_timeout(Duration::from_secs(20));
    let out = app.publisher::<String>(route);
    let service = started(app).await;
    soon("confirmed", out.publish("0".to_owned())).await.unwrap();
    broker.faults().inject(Rule::new(Fault::DropConfirm).on_queue("q").times(1)).unwrap();
    let lost = out.enqueue("1".to_owned()).await.unwrap();
    confirmed(enqueue(&out, 2..4).await).await;
    until("the others are off the books", || out.stats().outstanding == 1).await;
    assert_eq!(out.stats().republished, 0);
    broker.faults().strike(Fault::Cut, fluffle::broker::Target::all()).unwrap();
    soon("published again", lost.confirmed()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn without_a_channel_the_first_waits_alone_and_the_others_gather_and_who_stops_waiting_withdraws() {
    let vhost = vhost();
    let app = app(vhost.url());
    let route = || Route::exchange("x").key_by(|text: &String| if text.len() > 1 { "other" } else { "q" }.to_owned());
    let out = app.publisher::<String>(route().batch(Batching::adaptive().max_items(3)));
    // The service is not started, so nothing leaves.
    let mut receipts = enqueue(&out, 0..6).await;
    assert!(out.publish("withdrawn".to_owned()).now_or_never().is_none());
    receipts.extend(enqueue(&out, 10..12).await);
    let service = started(app).await;
    confirmed(receipts).await;
    service.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    assert_eq!(texts(&travelled(&raw, "q").await), [vec!["0"], vec!["1", "2", "3"], vec!["4", "5"]]);
    assert_eq!(texts(&travelled(&raw, "other").await), [["10", "11"]]);
    assert_eq!((out.stats().accepted, out.stats().confirmed, out.stats().withdrawn), (9, 8, 1));
}

#[actix::test]
async fn a_cut_connection_loses_nothing_and_each_key_keeps_its_order_whatever_its_messages_travel_as() {
    const MANY: usize = 8_000;
    let vhost = vhost();
    let app = app(vhost.url());
    let key = |text: &String| ["q", "other"][text.parse::<usize>().unwrap() % 2].to_owned();
    let out = app.publisher::<String>(Route::exchange("x").key_by(key).batch(Batching::adaptive().max_items(20)));
    let service = started(app).await;
    let mut receipts = Vec::new();
    for quarter in 0..4 {
        // A pause, so that messages travel by themselves too.
        out.flush().await;
        receipts.extend(enqueue(&out, quarter * MANY / 4..(quarter + 1) * MANY / 4).await);
        if quarter < 3 {
            vhost.close_connections("a test cuts the connection");
        }
    }
    let ids = confirmed(receipts).await;
    assert!(service.connections()[0].connects >= 2, "the connection was cut and is back");
    service.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    let mut there = HashMap::new();
    for (queue, rest) in [("q", 0), ("other", 1)] {
        let sent = travelled(&raw, queue).await;
        assert!(sent.iter().any(|one| one.is_envelope) && sent.iter().any(|one| !one.is_envelope));
        let mut order = Vec::new();
        for (id, text) in sent.iter().flat_map(Travelled::messages) {
            match there.insert(id, text.clone()) {
                Some(before) => assert_eq!(before, text, "the same id is the same message"),
                None => order.push(text.parse::<usize>().unwrap()),
            }
        }
        assert_eq!(order, (0..MANY).filter(|number| number % 2 == rest).collect::<Vec<_>>(), "{queue}");
    }
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(there[id], number.to_string());
    }
}

/// Hands on the id and the text of each message, whatever it came as.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<(String, String)>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Collector {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send((text.message_id().unwrap().to_owned(), text.into_inner()))?;
        Ok(())
    }
}

impl Handler<DeliveryBatch<String>> for Collector {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        for (index, text) in batch.iter().enumerate() {
            self.0.send((batch.id(index).unwrap(), text?))?;
        }
        Ok(ItemFailures::none())
    }
}

#[actix::test]
async fn a_handler_sees_the_same_messages_in_order_whatever_they_travelled_as_and_effectively_once_holds() {
    const MANY: usize = 4_000;
    for at_once in [false, true] {
        let vhost = vhost();
        let app = app(vhost.url());
        let out = app.publisher::<String>(Route::queue("q").batch(Batching::adaptive().max_items(30)));
        let (seen, mut record) = mpsc::unbounded_channel();
        let (collector, consume) = (Collector(seen), Consume::<String>::queue("q").prefetch(16).concurrency(1));
        let consume = consume.effectively_once(std::sync::Arc::new(SeenIds::options().in_memory().unwrap()));
        let app = match at_once {
            false => app.consume(consume, move || collector.clone()),
            true => app.consume_batches(consume, move || collector.clone()),
        };
        let service = started(app).await;
        let mut receipts = Vec::new();
        for half in 0..2 {
            receipts.extend(enqueue(&out, half * MANY / 2..(half + 1) * MANY / 2).await);
            soon("confirmed", out.publish(format!("alone {half}"))).await.unwrap();
            if half == 0 {
                vhost.close_connections("a test cuts all connections");
            }
        }
        let ids = confirmed(receipts).await;
        let mut once = HashSet::new();
        let mut numbers = Vec::new();
        while once.len() < MANY + 2 {
            let (id, text) = soon("a message", record.recv()).await.unwrap();
            assert!(once.insert(id.clone()), "{id} was handled twice");
            numbers.extend(text.parse::<usize>().ok().map(|number| (number, id)));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..MANY).zip(ids).collect::<Vec<_>>());
        nothing_left(&vhost, service).await;
        assert!(record.recv().now_or_never().flatten().is_none());
    }
}

#[actix::test]
async fn journaled_messages_that_gather_are_on_the_disk_when_they_leave_and_the_next_process_sends_them_first() {
    let (folder, vhost) = (tempfile::tempdir().unwrap(), vhost());
    let path = folder.path().join("out.journal");
    let open = || Journal::options().open(&path).unwrap();
    let route = |journal| Route::queue("q").batch(Batching::adaptive().max_items(3)).journal(journal);
    let before = {
        let journal = open();
        // The app is never started, so nothing leaves the journal.
        let app = App::new(broker(vhost.url()));
        let out = app.publisher::<String>(route(journal.clone()));
        let mut receipts = enqueue(&out, 0..5).await;
        let open = receipts.pop().unwrap();
        assert!(open.journaled().now_or_never().is_none(), "what gathers is in memory only");
        let mut ids = Vec::new();
        for receipt in receipts {
            ids.push(soon("on the disk", receipt.journaled()).await.unwrap().id().to_owned());
        }
        assert_eq!(journal.stats().unconfirmed, 2, "a message and an envelope");
        drop((out, app));
        soon("closed", journal.close()).await.unwrap();
        ids
    };
    let journal = open();
    let app = app(vhost.url());
    let out = app.publisher::<String>(route(journal.clone()));
    let service = started(app).await;
    let mut receipts = enqueue(&out, 5..500).await;
    vhost.close_connections("a test cuts the connection");
    receipts.extend(enqueue(&out, 500..1000).await);
    let after = confirmed(receipts).await;
    service.shutdown().await.unwrap();
    assert_eq!(journal.stats().unconfirmed, 0);
    let (mut order, mut ids) = (Vec::new(), HashMap::new());
    for (id, text) in travelled(&Raw::connect(vhost.url()).await, "q").await.iter().flat_map(Travelled::messages) {
        if ids.insert(text.clone(), id).is_none() {
            order.push(text.parse::<usize>().unwrap());
        }
    }
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
    let told = (0..4).zip(before).chain((5..1000).zip(after));
    for (number, id) in told {
        assert_eq!(ids[&number.to_string()], id);
    }
}

#[actix::test]
async fn a_message_that_has_gathered_alone_carries_its_own_trace() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::adaptive()));
    // The service is not started, so the second one gathers behind the first.
    let first = out.try_enqueue("first".to_owned()).unwrap();
    let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let second = trace::within(context.clone(), || out.try_enqueue("second".to_owned())).unwrap();
    let service = started(app).await;
    confirmed(vec![first, second]).await;
    let raw = Raw::connect(vhost.url()).await;
    assert_eq!(raw.take("q").await.header(TRACEPARENT), None);
    let second = raw.take("q").await;
    assert_eq!((second.header(TRACEPARENT), second.header(ITEM_TRACES)), (Some(context.traceparent()), None));
    assert!(!Travelled::open(second).is_envelope);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_becomes_of_a_message_becomes_of_it_alone_and_the_next_ones_go_on() {
    let vhost = vhost();
    let app = app(vhost.url());
    let astray = app.publisher::<String>(Route::exchange("x").key("nowhere").batch(Batching::adaptive().linger(NEVER)));
    let service = started(app).await;
    for round in 0..3 {
        for (receipt, text) in enqueue(&astray, 10 * round..10 * round + 10).await.into_iter().zip(10 * round..) {
            let id = receipt.id().to_owned();
            let error = soon("returned", receipt.confirmed()).await.unwrap_err();
            assert!(matches!(error.kind(), PublishErrorKind::Returned(returned) if returned.code == 312), "{error}");
            assert_eq!((error.message, error.id), (text.to_string(), id));
        }
    }
    // Callers are told of the outcome before the statistics count it.
    until("all are off the books", || astray.stats().outstanding == 0).await;
    assert_eq!(astray.stats().returned, 30);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_has_waited_for_its_turn_by_a_rate_limit_leaves_by_itself_with_the_type_of_its_own() {
    type Both = OneOf<(String, Vec<u8>)>;
    let vhost = vhost();
    let app = app(vhost.url());
    let route = Route::queue("q").batch(Batching::adaptive().linger(NEVER)).rate_limit(RateLimit::per_second(1_000, 1));
    let out = app.publisher::<Both>(route);
    let service = started(app).await;
    for number in 0..4_u8 {
        let message = if number % 2 == 0 { Both::new(number.to_string()) } else { Both::new(vec![number]) };
        let id = soon("confirmed", out.publish(message)).await.unwrap().id.to_string();
        let DeadLetter { properties, .. } = Raw::connect(vhost.url()).await.take("q").await;
        let kind = ["google.protobuf.StringValue", "google.protobuf.BytesValue"][usize::from(number % 2)];
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), kind);
        assert!(properties.content_type().as_ref().unwrap().as_str().ends_with(&format!("proto={kind}")));
    }
    service.shutdown().await.unwrap();
}
