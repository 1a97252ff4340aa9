//! Batches handled item by item: each item has a result of its own, and the batch is settled when all items have one.

use std::{sync::Arc, time::Duration};

use fluffle::{
    prelude::*,
    wire::{Gzip, Limits, Wire, headers},
};
use tokio::sync::{Notify, mpsc};

use crate::support::*;

pub(super) fn consume() -> Consume<String> {
    Consume::queue("q").retry(retry(3))
}

async fn texts(record: &mut Record, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(next(record).await.text);
    }
    texts
}

pub(super) fn id(letter: &DeadLetter) -> String {
    letter.properties.message_id().as_ref().unwrap().as_str().to_owned()
}

/// The message in a dead letter, decoded as a single message.
pub(super) fn alone(letter: &DeadLetter) -> String {
    let incoming = fluffle::wire::Incoming {
        content_type: letter.properties.content_type().as_ref().map(|label| label.as_str()),
        content_encoding: letter.properties.content_encoding().as_ref().map(|label| label.as_str()),
        type_name: letter.properties.kind().as_ref().map(|label| label.as_str()),
        headers: None,
        body: &letter.body.clone().into(),
    };
    Wire::<String>::protobuf().decode(&incoming).unwrap()
}

/// Answers at once, and records the text and the id of each message.
struct Plain(mpsc::UnboundedSender<(String, Option<String>)>);

impl Actor for Plain {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Plain {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send((text.clone(), text.message_id().map(str::to_owned)))?;
        match text.as_str() {
            "rejected" => Err(Failure::reject("never")),
            "fails once" if text.attempt() == 1 => Err(Failure::retry("not yet")),
            "panics" => panic!("scripted panic"),
            "blocks" if text.attempt() == 1 => {
                std::thread::sleep(Duration::from_millis(1500));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[actix::test]
async fn the_items_of_a_batch_are_handled_in_order_under_ids_of_their_own_and_acked_together() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(vhost.url()).consume(consume(), move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    let many: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for id in ["a", "b"] {
        send_batch(&raw, id, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    for id in ["a", "b"] {
        for (n, text) in many.iter().enumerate() {
            let expected = (text.clone(), Some(format!("{id}/{n}")));
            assert_eq!(soon("an item", record.recv()).await.unwrap(), expected);
        }
    }
    until("all are acked", || stats(&service).handled == 2000).await;
    assert_eq!((stats(&service).received, stats(&service).batches), (2, 2));
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn one_bad_item_does_not_fail_or_repeat_the_others() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(vhost.url()).consume(consume(), move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "fails once", "b", "rejected", "c"]).await;
    let mut given = Vec::new();
    for _ in 0..6 {
        given.push(soon("an item", record.recv()).await.unwrap());
    }
    let texts: Vec<&str> = given.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["a", "fails once", "b", "rejected", "c", "fails once"]);
    assert_eq!(given[5].1.as_deref(), Some("e/1"), "the copy keeps the item's id");
    let dead = raw.take("q.dead").await;
    assert_eq!((id(&dead).as_str(), alone(&dead).as_str()), ("e/3", "rejected"));
    assert_eq!(dead.header(headers::REASON).unwrap(), "rejected");
    assert_eq!(dead.header(headers::ORIGIN_QUEUE).unwrap(), "q");
    until("all are settled", || {
        let stats = stats(&service);
        (stats.handled, stats.retried, stats.dead_lettered) == (4, 1, 1)
    })
    .await;
    assert!(record.try_recv().is_err(), "no item was handled again");
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_envelope_is_never_acked_while_the_copy_of_one_of_its_items_has_no_place() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let app = app_with_q(vhost.url()).drain_within(Duration::from_millis(500));
    let service = started(app.consume(consume(), move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    raw.let_nothing_into("q.retry.50").await;
    send_batch(&raw, "e", &["a", "fails once", "b"]).await;
    for expected in ["a", "fails once", "b"] {
        assert_eq!(soon("an item", record.recv()).await.unwrap().0, expected);
    }
    service.shutdown().await.unwrap();
    let back = raw.take("q").await;
    assert_eq!((id(&back).as_str(), &back.body[..]), ("e", &batch(&["a", "fails once", "b"]).body[..]));
}

#[actix::test]
async fn items_that_answer_later_have_each_a_result_of_their_own() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| match seen.text.as_str() {
        "slow" => Act::Wait(Arc::clone(&gate)),
        "bad" => Act::Err(Failure::reject("never")),
        _ => Act::Ok,
    });
    let service = started(app_with_q(vhost.url()).consume(consume(), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["slow", "bad", "a"]).await;
    send_batch(&raw, "f", &["b"]).await;
    assert_eq!(texts(&mut record, 4).await, ["slow", "bad", "a", "b"]);
    until("the second batch is acked", || stats(&service).handled == 1).await;
    until("the first waits for its slow item", || vhost.depth("q").unacked == 1).await;
    assert_eq!(raw.ready("q.dead").await, 0);
    go.notify_one();
    until("the first is settled", || stats(&service).handled == 3 && stats(&service).dead_lettered == 1).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn a_panic_is_charged_to_the_item_in_hand_and_the_rest_of_its_batch_goes_on() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(vhost.url()).consume(consume(), move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "panics", "b", "c"]).await;
    send_batch(&raw, "f", &["d"]).await;
    let mut given = Vec::new();
    for _ in 0..7 {
        given.push(soon("an item", record.recv()).await.unwrap().0);
    }
    assert_eq!(given, ["a", "panics", "b", "c", "d", "panics", "panics"]);
    let dead = raw.take("q.dead").await;
    assert_eq!((id(&dead).as_str(), dead.header(headers::ATTEMPT).unwrap().as_str()), ("e/1", "3"));
    until("all are settled", || stats(&service).handled == 4).await;
    assert_eq!(stats(&service).crashed, 3);
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_item_that_cannot_be_read_is_a_dead_letter_of_its_own_and_a_damaged_rest_one_more() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app_with_q(vhost.url()).consume(consume(), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    let good = batch(&["a"]).body;
    // Field 1 of a StringValue, with a length that exceeds the item.
    let unreadable = [&[3, 0x0a, 9, b'x'], &good[..]].concat();
    // The length of an item, which exceeds the body.
    let damaged = [&[9], &good[..]].concat();
    let body = [&good[..], &unreadable, &damaged].concat();
    raw.put("q", &body, labels(&batch(&[]), "e")).await;
    assert_eq!(texts(&mut record, 2).await, ["a", "a"]);
    let (item, rest) = (raw.take("q.dead").await, raw.take("q.dead").await);
    assert_eq!((id(&item).as_str(), &item.body[..]), ("e/1", &[0x0a, 9, b'x'][..]));
    assert_eq!((id(&rest).as_str(), &rest.body[..]), ("e/3", &damaged[..]));
    for letter in [item, rest] {
        assert_eq!(letter.header(headers::REASON).unwrap(), "undecodable");
    }
    until("all are settled", || (stats(&service).handled, stats(&service).dead_lettered) == (2, 2)).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn a_batch_that_cannot_be_opened_is_one_dead_letter() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let limits = Limits { batch_items: 2, ..Limits::default() };
    let service = started(app_with_q(vhost.url()).consume(consume().limits(limits), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "many", &["a", "b", "c"]).await;
    let asking = labels(&batch(&["a"]), "asks").with_reply_to("amq.rabbitmq.reply-to.somebody".into());
    raw.put("q", &batch(&["a"]).body, asking).await;
    let many = raw.take("q.dead").await;
    assert_eq!((id(&many).as_str(), many.body.as_slice()), ("many", &batch(&["a", "b", "c"]).body[..]));
    assert_eq!(raw.take("q.dead").await.header(headers::REASON).unwrap(), "rejected");
    assert!(record.try_recv().is_err());
    until("both are settled", || stats(&service).dead_lettered == 2).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_empty_batch_is_acked() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app_with_q(vhost.url()).consume(consume(), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "none", &[]).await;
    send_batch(&raw, "one", &["a"]).await;
    assert_eq!(texts(&mut record, 1).await, ["a"]);
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn what_a_compressed_batch_unpacks_to_counts_for_the_budget() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app_with_q(vhost.url()).consume(consume().max_bytes_in_flight(10_000), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    let long = "x".repeat(20_000);
    let packed = Wire::<String>::protobuf().gzip(Gzip::on()).encode_batch([&long, &long]).unwrap();
    raw.put("q", &packed.body, labels(&packed, "packed")).await;
    send_batch(&raw, "next", &["a"]).await;
    assert_eq!(texts(&mut record, 2).await, [long.as_str(), &long]);
    until("the next has arrived", || stats(&service).received == 2).await;
    assert!(record.try_recv().is_err(), "the byte budget has no room for the next batch yet");
    until("all are handled", || {
        go.notify_waiters();
        stats(&service).handled == 3
    })
    .await;
    assert_eq!(texts(&mut record, 1).await, ["a"]);
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn prefetch_counts_batches_and_concurrency_counts_items() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app_with_q(vhost.url()).consume(consume().prefetch(1).concurrency(2), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    for id in ["e", "f"] {
        send_batch(&raw, id, &["1", "2", "3"]).await;
    }
    assert_eq!(texts(&mut record, 2).await, ["1", "2"]);
    assert!(record.try_recv().is_err(), "more than two messages are in hand");
    until("the second batch waits at the broker", || {
        let depth = vhost.depth("q");
        (depth.ready, depth.unacked) == (1, 1)
    })
    .await;
    assert_eq!(stats(&service).received, 1);
    until("all are handled", || {
        go.notify_one();
        stats(&service).handled == 6
    })
    .await;
    nothing_left(&vhost, service).await;
}

/// Sends itself a `Tick` for each message. Reports how many ticks it has handled when the last message comes.
struct Ticking {
    ticks: Arc<std::sync::atomic::AtomicUsize>,
    ticks_at_the_end: mpsc::UnboundedSender<usize>,
}

struct Tick;

impl Message for Tick {
    type Result = ();
}

impl Actor for Ticking {
    type Context = Context<Self>;
}

impl Handler<Tick> for Ticking {
    type Result = ();

    fn handle(&mut self, _: Tick, _: &mut Self::Context) {
        self.ticks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Handler<Delivery<String>> for Ticking {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, ctx: &mut Self::Context) -> Self::Result {
        ctx.notify(Tick);
        if *text == "last" {
            self.ticks_at_the_end.send(self.ticks.load(std::sync::atomic::Ordering::SeqCst))?;
        }
        Ok(())
    }
}

#[actix::test]
async fn a_large_batch_leaves_the_actor_its_turns() {
    let vhost = vhost();
    let ticks = Arc::default();
    let (end, mut ended) = mpsc::unbounded_channel();
    let factory = move || Ticking { ticks: Arc::clone(&ticks), ticks_at_the_end: end.clone() };
    let service = started(app_with_q(vhost.url()).consume(consume(), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    let mut items = vec!["a"; 5000];
    items.push("last");
    send_batch(&raw, "large", &items).await;
    let ticks = soon("the last item", ended.recv()).await.unwrap();
    assert!(ticks > 4500, "only {ticks} of the actor's own messages were handled before the last item of the batch");
    until("all are acked", || stats(&service).handled == 5001).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_item_whose_handler_never_answers_fails_by_itself() {
    let vhost = vhost();
    let (factory, mut record) =
        handlers(|seen| if seen.text == "hangs" && seen.attempt == 1 { Act::Hang } else { Act::Ok });
    let patient = consume().concurrency(1).handler_timeout(Duration::from_millis(300));
    let service = started(app_with_q(vhost.url()).consume(patient, factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "hangs", "b"]).await;
    assert_eq!(texts(&mut record, 4).await, ["a", "hangs", "b", "hangs"]);
    until("all are settled", || (stats(&service).handled, stats(&service).retried) == (3, 1)).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_item_that_blocks_for_too_long_fails_by_itself_and_its_late_answer_counts_for_nothing() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let patient = consume().handler_timeout(Duration::from_millis(300));
    let service = started(app_with_q(vhost.url()).consume(patient, move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "blocks", "b"]).await;
    for expected in ["a", "blocks", "b", "blocks"] {
        assert_eq!(soon("an item", record.recv()).await.unwrap().0, expected);
    }
    until("all are settled", || {
        let stats = stats(&service);
        (stats.handled, stats.retried, stats.late) == (3, 1, 1)
    })
    .await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn a_connection_lost_amid_a_batch_brings_all_of_it_again_and_begins_nothing_twice_at_a_time() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| match (seen.text.as_str(), seen.redelivered) {
        ("b", false) => Act::Wait(Arc::clone(&gate)),
        _ => Act::Ok,
    });
    let service = started(app_with_q(vhost.url()).consume(consume().concurrency(1), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "b", "c"]).await;
    assert_eq!(texts(&mut record, 2).await, ["a", "b"]);
    vhost.close_connections("a test cuts the connection");
    until("it consumes again", || stats(&service).received == 2).await;
    go.notify_one();
    // The "c" that came on the lost channel must not be begun.
    assert_eq!(texts(&mut record, 3).await, ["a", "b", "c"]);
    until("the second time is acked", || stats(&service).handled == 3).await;
    assert_eq!(stats(&service).work_done_ack_lost, 2, "`a` and `b` were done before the channel was lost");
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn at_shutdown_a_batch_that_is_begun_is_finished_and_one_that_is_not_goes_back() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app_with_q(vhost.url()).consume(consume().concurrency(1), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "begun", &["a", "b"]).await;
    send_batch(&raw, "waits", &["c"]).await;
    assert_eq!(texts(&mut record, 1).await, ["a"]);
    until("both have arrived", || stats(&service).received == 2).await;
    let stopping = {
        let service = service.clone();
        actix_rt::spawn(async move { service.shutdown().await })
    };
    until("the one that waits went back", || stats(&service).requeued == 1).await;
    go.notify_one();
    assert_eq!(texts(&mut record, 1).await, ["b"]);
    go.notify_one();
    soon("it stops", stopping).await.unwrap().unwrap();
    assert_eq!(stats(&service).handled, 2);
    assert_eq!(Raw::connect(vhost.url()).await.ready("q").await, 1);
}

#[actix::test]
async fn at_most_once_drops_the_items_that_fail_and_no_others() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let consume = consume().guarantee(AtMostOnce);
    let service = started(app_with_q(vhost.url()).consume(consume, move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "rejected", "panics", "b"]).await;
    for expected in ["a", "rejected", "panics", "b"] {
        assert_eq!(soon("an item", record.recv()).await.unwrap().0, expected);
    }
    until("all are noted", || (stats(&service).handled, stats(&service).dropped) == (2, 2)).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn a_short_wait_of_an_item_is_waited_out_here_and_only_that_item_comes_again() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let here = retry(3).in_process_below(Duration::from_secs(1)).unwrap();
    let service = started(app_with_q(vhost.url()).consume(consume().retry(here), move || Plain(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "fails once"]).await;
    for expected in ["a", "fails once", "fails once"] {
        assert_eq!(soon("an item", record.recv()).await.unwrap().0, expected);
    }
    until("all are settled", || (stats(&service).handled, stats(&service).retried) == (2, 1)).await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn an_item_handled_before_is_not_handled_again_when_its_batch_comes_again() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| match (seen.text.as_str(), seen.redelivered) {
        ("b", false) => Act::Wait(Arc::clone(&gate)),
        _ => Act::Ok,
    });
    let store = Arc::new(SeenIds::options().in_memory().unwrap());
    let once = consume().concurrency(1).effectively_once(store);
    let service = started(app_with_q(vhost.url()).consume(once, factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "b", "c"]).await;
    assert_eq!(texts(&mut record, 2).await, ["a", "b"]);
    vhost.close_connections("a test cuts the connection");
    until("it comes again", || stats(&service).received == 2).await;
    go.notify_one();
    assert_eq!(texts(&mut record, 1).await, ["c"], "the others were handled before");
    until("it is acked", || (stats(&service).handled, stats(&service).duplicates) == (1, 2)).await;
    // The same batch is published again under the same id, on another connection.
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "b", "c"]).await;
    send_batch(&raw, "f", &["d"]).await;
    assert_eq!(texts(&mut record, 1).await, ["d"]);
    nothing_left(&vhost, service).await;
}
