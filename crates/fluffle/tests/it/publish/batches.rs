//! A publisher that gathers messages into envelopes: when they are sent, what travels, and what becomes of each
//! message.

use std::{collections::BTreeSet, io::Read, time::Duration};

use fluffle::{
    amqp::{PublisherStats, Receipt},
    prelude::*,
};
use futures_util::{FutureExt, future::join_all};
use lapin::BasicProperties;
use prost::Message as _;

use crate::support::*;

/// A linger so long that it never makes a batch go out.
const NEVER: Duration = Duration::from_secs(60);

fn patient() -> Batching {
    Batching::default().linger(NEVER)
}

fn app(url: &str) -> App {
    App::new(broker(url)).topology(
        Topology::new()
            .exchange(Exchange::direct("x"))
            .queue(Queue::quorum("q").bind("x", "q"))
            .queue(Queue::quorum("other").bind("x", "other"))
            .queue(Queue::classic("short").max_length(1).overflow(Overflow::RejectPublish)),
    )
}

/// An envelope, decoded by hand as docs/WIRE.md describes it.
struct Envelope {
    id: String,
    texts: Vec<String>,
    properties: BasicProperties,
}

impl Envelope {
    fn open(DeadLetter { body, properties }: DeadLetter) -> Self {
        let label = properties.content_type().as_ref().unwrap().as_str();
        assert!(label.ends_with("; encoding=delimited"), "{label}");
        let body = match properties.content_encoding().as_ref().map(|encoding| encoding.as_str()) {
            Some("gzip") => {
                let mut raw = Vec::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut raw).unwrap();
                raw
            }
            _ => body,
        };
        let (mut texts, mut rest) = (Vec::new(), &body[..]);
        while !rest.is_empty() {
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = rest[0];
                rest = &rest[1..];
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            texts.push(String::decode(&rest[..length]).unwrap());
            rest = &rest[length..];
        }
        let id = properties.message_id().as_ref().unwrap().as_str().to_owned();
        Self { id, texts, properties }
    }
}

async fn envelopes(raw: &Raw, queue: &str, count: usize) -> Vec<Envelope> {
    let mut envelopes = Vec::new();
    for _ in 0..count {
        envelopes.push(Envelope::open(raw.take(queue).await));
    }
    envelopes
}

fn texts(envelopes: &[Envelope]) -> Vec<Vec<&str>> {
    envelopes.iter().map(|envelope| envelope.texts.iter().map(String::as_str).collect()).collect()
}

async fn enqueue(out: &Publisher<String>, texts: impl IntoIterator<Item = usize>) -> Vec<Receipt<String>> {
    let mut receipts = Vec::new();
    for text in texts {
        receipts.push(out.enqueue(text.to_string()).await.unwrap());
    }
    receipts
}

async fn confirmed(receipts: Vec<Receipt<String>>) -> Vec<String> {
    let all = join_all(receipts.into_iter().map(|receipt| receipt.confirmed()));
    soon("all confirmed", all).await.into_iter().map(|confirmed| confirmed.unwrap().id.to_string()).collect()
}

#[actix::test]
async fn a_batch_is_sent_when_it_has_its_count_or_its_size_and_not_before() {
    let vhost = vhost();
    let app = app(vhost.url());
    let counted = app.publisher::<String>(Route::queue("q").batch(patient().max_items(10)));
    // A text of two letters takes five bytes in a batch.
    let sized = app.publisher::<String>(Route::queue("other").batch(patient().max_bytes(12)));
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;

    let ids = confirmed(enqueue(&counted, 0..20).await).await;
    let open = enqueue(&counted, 20..25).await;
    let sent = envelopes(&raw, "q", 2).await;
    assert_eq!(sent.iter().map(|envelope| envelope.texts.len()).collect::<Vec<_>>(), [10, 10]);
    assert_eq!(ids[13], format!("{}/3", sent[1].id), "an item's id is the id of its envelope and its index");
    let PublisherStats { accepted, confirmed: done, .. } = counted.stats();
    assert_eq!((accepted, done), (25, 20), "messages are counted, not envelopes");
    // Callers are told of the confirm before the statistics count it.
    until("the confirmed are off the books", || counted.stats().outstanding == 5).await;
    assert!(open.into_iter().all(|receipt| receipt.confirmed().now_or_never().is_none()));

    let mut receipts = enqueue(&sized, 10..15).await;
    let _open = receipts.split_off(4);
    confirmed(receipts).await;
    assert_eq!(texts(&envelopes(&raw, "other", 2).await), [["10", "11"], ["12", "13"]]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lone_message_goes_when_its_linger_is_over() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::default()));
    let service = started(app).await;
    for text in ["one", "two"] {
        soon("the linger", out.publish(text.to_owned())).await.unwrap();
    }
    let raw = Raw::connect(vhost.url()).await;
    assert_eq!(texts(&envelopes(&raw, "q", 2).await), [["one"], ["two"]]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_envelope_says_what_it_is_and_its_items_keep_their_order_with_and_without_gzip() {
    let vhost = vhost();
    let raw = {
        let app = app(vhost.url());
        let plain = app.publisher::<String>(Route::queue("q").batch(patient()));
        let packed = app.publisher::<String>(Route::queue("other").batch(patient()).gzip(Gzip::auto()));
        let service = started(app).await;
        for out in [&plain, &packed] {
            let receipts = enqueue(out, 0..1000).await;
            out.flush().await;
            confirmed(receipts).await;
        }
        service.shutdown().await.unwrap();
        Raw::connect(vhost.url()).await
    };
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    for (queue, encoding) in [("q", None), ("other", Some("gzip"))] {
        let envelope = envelopes(&raw, queue, 1).await.remove(0);
        assert_eq!(envelope.texts, numbers);
        let properties = envelope.properties;
        let text = |property: &Option<lapin::types::ShortString>| property.as_ref().map(|text| text.to_string());
        assert_eq!(text(properties.content_encoding()).as_deref(), encoding);
        assert_eq!(text(properties.kind()).as_deref(), Some("google.protobuf.StringValue"));
        let label = "application/vnd.google.protobuf; proto=google.protobuf.StringValue; encoding=delimited";
        assert_eq!(text(properties.content_type()).as_deref(), Some(label));
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
}

#[actix::test]
async fn the_linger_survives_a_lost_connection() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").batch(patient().linger(Duration::from_millis(800))));
    let service = started(app).await;
    // When the first message is out, the publisher's actor is idle and must be woken for the next batch.
    soon("the linger", out.publish("before".to_owned())).await.unwrap();
    let receipt = out.enqueue("lingering".to_owned()).await.unwrap();
    vhost.close_connections("a test cuts the connection");
    soon("sent by the next actor", receipt.confirmed()).await.unwrap();
    assert!(service.connections()[0].connects >= 2, "the connection was cut and is back");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn the_linger_survives_a_lost_channel() {
    let vhost = vhost();
    let app = app(vhost.url());
    let linger = patient().linger(Duration::from_millis(500));
    let out = app.publisher::<String>(Route::exchange("x").key("q").batch(linger));
    let service = started(app).await;
    soon("the linger", out.publish("before".to_owned())).await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    raw.channel().exchange_delete("x".into(), Default::default()).await.unwrap();
    let receipt = out.enqueue("lingering".to_owned()).await.unwrap();
    // This message is sent alone and at once, and closes the channel, because the exchange is missing. The exchange is
    // declared again and takes both messages.
    let alone = MessageOptions::new().key("other").priority(1);
    soon("published again", out.publish_with("alone".to_owned(), alone)).await.unwrap();
    soon("sent by the next actor", receipt.confirmed()).await.unwrap();
    let node = service.snapshot();
    assert!(node.find("app/publish/publish-0/channels/x/channel").unwrap().restarts >= 1, "{node}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn flush_the_last_drop_and_a_shutdown_send_what_is_open() {
    let vhost = vhost();
    let app = app(vhost.url());
    let route = || Route::queue("q").batch(patient());
    let [flushed, dropped, ended] = [(); 3].map(|()| app.publisher::<String>(route()));
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;
    let one = flushed.enqueue("flushed".to_owned()).await.unwrap();
    soon("flushed", flushed.flush()).await;
    one.confirmed().now_or_never().expect("flush waits for its confirm").unwrap();
    let two = dropped.enqueue("dropped".to_owned()).await.unwrap();
    drop(dropped);
    soon("confirmed", two.confirmed()).await.unwrap();
    let three = ended.enqueue("ended".to_owned()).await.unwrap();
    soon("shut down", service.shutdown()).await.unwrap();
    three.confirmed().now_or_never().expect("the drain waits for its confirm").unwrap();
    assert_eq!(texts(&envelopes(&raw, "q", 3).await), [["flushed"], ["dropped"], ["ended"]]);
}

#[actix::test]
async fn a_publish_dropped_while_it_waits_for_room_was_not_accepted_and_one_in_a_batch_goes_out() {
    let vhost = vhost();
    let app = app(vhost.url());
    let route = Route::exchange("x").key_by(|text: &String| text[..text.len() - 1].to_owned());
    let out = app.publisher::<String>(route.batch(patient()).mailbox(1));
    // The service is not started, so nothing leaves the mailbox. The first batch takes its only place.
    assert!(out.publish("q1".to_owned()).now_or_never().is_none());
    assert!(out.enqueue("other1".to_owned()).now_or_never().is_none(), "no room for another key's batch");
    assert_eq!(out.stats().accepted, 1);
    let full = out.try_enqueue("other2".to_owned()).unwrap_err();
    assert!(matches!(full.kind(), PublishErrorKind::Full), "{full}");
    assert_eq!(full.message, "other2");
    let service = started(app).await;
    soon("flushed", out.flush()).await;
    assert_eq!((out.stats().accepted, out.stats().confirmed), (1, 1));
    let receipt = out.try_enqueue("q2".to_owned()).unwrap();
    service.shutdown().await.unwrap();
    receipt.confirmed().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    assert_eq!(texts(&envelopes(&raw, "q", 2).await), [["q1"], ["q2"]]);
    assert_eq!(raw.ready("other").await, 0);
}

#[actix::test]
async fn without_a_broker_a_shutdown_hands_back_what_is_open() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = App::new(broker(&format!("amqp://127.0.0.1:{port}")));
    let out = app.publisher::<String>(Route::queue("q").batch(patient()));
    let service = app.start().await.unwrap();
    let receipts = enqueue(&out, 0..3).await;
    soon("shut down", service.shutdown()).await.unwrap();
    for (receipt, text) in receipts.into_iter().zip(0..) {
        let error = soon("handed back", receipt.confirmed()).await.unwrap_err();
        assert!(matches!(error.kind(), PublishErrorKind::NotSent(NotSent::Ended)), "{error}");
        assert_eq!(error.message, text.to_string());
    }
    assert_eq!((out.stats().failed, out.stats().outstanding), (3, 0));
    let late = out.publish("late".to_owned()).await.unwrap_err();
    assert!(matches!(late.kind(), PublishErrorKind::NotSent(NotSent::Ended)), "{late}");
}

type Expected = fn(&PublishErrorKind) -> bool;

#[actix::test]
async fn what_becomes_of_an_envelope_becomes_of_each_message_which_goes_back_to_its_sender() {
    let vhost = vhost();
    let app = app(vhost.url());
    let astray = app.publisher::<String>(Route::exchange("x").key("nowhere").batch(patient()));
    let short = app.publisher::<String>(Route::queue("short").batch(patient().max_items(3)));
    let missing = app.publisher::<String>(Route::exchange("missing").batch(patient()));
    let service = started(app).await;
    confirmed(enqueue(&short, 0..3).await).await;
    let cases: [(&Publisher<String>, Expected); 3] = [
        (&astray, |kind| matches!(kind, PublishErrorKind::Returned(returned) if returned.code == 312)),
        (&short, |kind| matches!(kind, PublishErrorKind::Nacked)),
        (&missing, |kind| matches!(kind, PublishErrorKind::Refused { code: 404, .. })),
    ];
    for (out, expected) in cases {
        let receipts = enqueue(out, 10..13).await;
        let ids: Vec<String> = receipts.iter().map(|receipt| receipt.id().to_owned()).collect();
        soon("settled", out.flush()).await;
        for ((receipt, id), text) in receipts.into_iter().zip(ids).zip(10..) {
            let error = receipt.confirmed().await.unwrap_err();
            assert!(expected(error.kind()), "{error}");
            assert_eq!((error.message, error.id), (text.to_string(), id));
        }
    }
    assert_eq!((astray.stats().returned, short.stats().nacked, missing.stats().failed), (3, 3, 3));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_message_that_cannot_be_encoded_fails_alone_and_a_large_one_travels_alone() {
    let vhost = vhost();
    let app = app(vhost.url());
    let limits = fluffle::wire::Limits { encoded: 500, ..Default::default() };
    let out = app.publisher::<String>(Route::queue("q").limits(limits).batch(patient().max_bytes(100)));
    let service = started(app).await;
    let mut receipts = vec![out.enqueue("before".to_owned()).await.unwrap()];
    let error = out.enqueue("x".repeat(501)).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Encode(_)), "{error}");
    assert_eq!(error.message.len(), 501);
    receipts.push(out.enqueue("with it".to_owned()).await.unwrap());
    receipts.push(out.enqueue("y".repeat(200)).await.unwrap());
    receipts.push(out.enqueue("after".to_owned()).await.unwrap());
    let long = MessageOptions::new().key("k".repeat(256));
    let error = out.enqueue_with("a".to_owned(), long).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Property("routing key")), "{error}");
    out.flush().await;
    confirmed(receipts).await;
    let raw = Raw::connect(vhost.url()).await;
    let sent = envelopes(&raw, "q", 3).await;
    assert_eq!(texts(&sent), [vec!["before", "with it"], vec![&*"y".repeat(200)], vec!["after"]]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn each_key_keeps_its_order_and_what_has_options_of_its_own_goes_alone_in_its_place() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::exchange("x").key("q").batch(Batching::default().max_items(7)));
    let service = started(app).await;
    let mut receipts = Vec::new();
    for number in 0..600 {
        let key = ["q", "other"][number % 2];
        let mut options = MessageOptions::new().key(key);
        if number % 10 < 2 {
            options = options.id(format!("mine {number}"));
        }
        receipts.push(out.enqueue_with(number.to_string(), options).await.unwrap());
    }
    confirmed(receipts).await;
    service.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    for (queue, rest) in [("q", 0), ("other", 1)] {
        let mut order: Vec<usize> = Vec::new();
        for _ in 0..raw.ready(queue).await {
            let message = raw.take(queue).await;
            let id = message.properties.message_id().as_ref().unwrap().to_string();
            if let Some(number) = id.strip_prefix("mine ") {
                assert_eq!(String::decode(&message.body[..]).unwrap(), number, "the message must not be an envelope");
                order.push(number.parse().unwrap());
            } else {
                order.extend(Envelope::open(message).texts.iter().map(|text| text.parse::<usize>().unwrap()));
            }
        }
        assert_eq!(order, (0..600).filter(|number| number % 2 == rest).collect::<Vec<_>>());
    }
}

#[actix::test]
async fn more_keys_than_there_may_be_open_batches_all_get_through() {
    let vhost = vhost();
    let topology = Topology::new().exchange(Exchange::topic("t")).queue(Queue::quorum("q").bind("t", "#"));
    let app = App::new(broker(vhost.url())).topology(topology);
    let route = Route::exchange("t").key_by(|text: &String| format!("key.{}", text.parse::<usize>().unwrap() % 100));
    let out = app.publisher::<String>(route.batch(patient()));
    let service = started(app).await;
    let receipts = enqueue(&out, 0..300).await;
    soon("flushed", out.flush()).await;
    let ids: BTreeSet<String> = confirmed(receipts).await.into_iter().collect();
    assert_eq!(ids.len(), 300);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_cut_connection_loses_no_item_and_keeps_their_ids() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::default().max_items(20)).mailbox(8));
    let service = started(app).await;
    let mut receipts = Vec::new();
    for number in 0..6000 {
        if number % 2000 == 1000 {
            vhost.close_connections("a test cuts the connection");
        }
        receipts.push(soon("room", out.enqueue(number.to_string())).await.unwrap());
    }
    let ids = confirmed(receipts).await;
    assert!(service.connections()[0].connects >= 2, "the connection was cut and is back");
    service.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    let mut there = std::collections::HashMap::new();
    for _ in 0..raw.ready("q").await {
        let envelope = Envelope::open(raw.take("q").await);
        for (index, text) in envelope.texts.into_iter().enumerate() {
            let before = there.insert(format!("{}/{index}", envelope.id), text.clone());
            assert!(before.is_none_or(|before| before == text), "the same id is the same message");
        }
    }
    assert_eq!(there.len(), 6000);
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(there[id], number.to_string());
    }
}

#[actix::test]
async fn a_rate_limit_counts_messages_not_envelopes() {
    let vhost = vhost();
    let app = app(vhost.url());
    let limit = RateLimit::per_minute(1, 5);
    let out = app.publisher::<String>(Route::queue("q").batch(patient()).rate_limit(limit));
    let receipts = join_all((0..5).map(|text| out.enqueue(text.to_string()))).await;
    assert_eq!(receipts.into_iter().filter(|receipt| receipt.is_ok()).count(), 5);
    let error = out.try_enqueue("6".to_owned()).unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Full), "{error}");
    assert!(out.enqueue("7".to_owned()).now_or_never().is_none());
    assert_eq!(out.stats().accepted, 5);
}

#[actix::test]
async fn a_journaled_batch_is_on_the_disk_when_it_is_sent_and_the_next_process_sends_it_first() {
    let (folder, vhost) = (tempfile::tempdir().unwrap(), vhost());
    let path = folder.path().join("out.journal");
    let open = || Journal::options().open(&path).unwrap();
    let route = |journal| Route::queue("q").batch(patient().max_items(3)).journal(journal);
    let ids = {
        let journal = open();
        // The app is never started, so nothing leaves the journal.
        let app = App::new(broker(vhost.url()));
        let out = app.publisher::<String>(route(journal.clone()));
        let mut receipts = enqueue(&out, 0..4).await;
        let open = receipts.pop().unwrap();
        assert!(open.journaled().now_or_never().is_none(), "the open batch must be in memory only");
        let mut ids = Vec::new();
        for receipt in receipts {
            ids.push(soon("on the disk", receipt.journaled()).await.unwrap().id().to_owned());
        }
        assert_eq!(journal.stats().unconfirmed, 1, "an envelope is one record");
        drop((out, app));
        soon("closed", journal.close()).await.unwrap();
        ids
    };
    let journal = open();
    let app = app(vhost.url());
    let out = app.publisher::<String>(route(journal.clone()));
    let service = started(app).await;
    confirmed(enqueue(&out, 10..13).await).await;
    soon("flushed", out.flush()).await;
    let raw = Raw::connect(vhost.url()).await;
    let sent = envelopes(&raw, "q", 3).await;
    assert_eq!(texts(&sent), [vec!["0", "1", "2"], vec!["3"], vec!["10", "11", "12"]]);
    assert_eq!(ids[2], format!("{}/2", sent[0].id));
    assert_eq!(out.stats().confirmed, 7, "messages are counted, those of the earlier process too");
    service.shutdown().await.unwrap();
    assert_eq!(journal.stats().unconfirmed, 0);
}

#[actix::test]
async fn a_journaled_envelope_leaves_the_journal_when_all_its_messages_are_back_and_is_tried_again_otherwise() {
    let (folder, vhost) = (tempfile::tempdir().unwrap(), vhost());
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let app = app(vhost.url());
    let route = Route::exchange("x").key("late").batch(patient().max_items(3)).journal(journal.clone());
    let out = app.publisher::<String>(route);
    let service = started(app).await;
    for receipt in enqueue(&out, 0..3).await {
        let error = soon("returned", receipt.confirmed()).await.unwrap_err();
        assert!(matches!(error.kind(), PublishErrorKind::Returned(_)), "{error}");
    }
    until("the journal lets go of it", || journal.stats().unconfirmed == 0).await;

    let mut receipts = enqueue(&out, 10..13).await;
    let dropped = receipts.pop().unwrap();
    for receipt in receipts {
        soon("returned", receipt.confirmed()).await.unwrap_err();
    }
    assert_eq!(journal.stats().unconfirmed, 1, "one of three has not been told");
    drop(dropped);
    let raw = Raw::connect(vhost.url()).await;
    raw.channel()
        .queue_bind("q".into(), "x".into(), "late".into(), Default::default(), Default::default())
        .await
        .unwrap();
    assert_eq!(texts(&envelopes(&raw, "q", 1).await), [["10", "11", "12"]]);
    until("the journal lets go of it", || journal.stats().unconfirmed == 0).await;
    service.shutdown().await.unwrap();
}
