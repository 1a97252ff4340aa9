//! Failures of the broker, on nodes of the tests' own: it is killed, is away, blocks publishers, or times consumers
//! out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle::prelude::*;
use fluffle_harness::RabbitMq;
use futures_util::future::join_all;

use crate::support::*;

/// A deadline that publishers are meant to miss.
const SHORT: Duration = Duration::from_millis(400);

const LONG: Duration = Duration::from_secs(90);

fn app(url: &str) -> (App, Publisher<String>) {
    let app = App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q").deadline(LONG));
    (app, out)
}

/// Counts each message by its text.
struct Counter {
    tally: Tally,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counter {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.tally.add(&text);
        Ok(())
    }
}

#[actix::test]
async fn kill_9_of_the_broker_leaves_no_message_of_a_stream_out_and_repeats_only_what_was_in_hand() {
    const MESSAGES: usize = 5_000;
    let node = Arc::new(RabbitMq::start().unwrap());
    let topology = Topology::new().queue(Queue::stream("events"));
    let app = App::new(broker(&node.url())).topology(topology);
    let out = app.publisher::<String>(Route::queue("events").deadline(LONG));
    let (tally, store) = (Tally::default(), Offsets::in_memory().unwrap());
    let counted = tally.clone();
    let consume = Consume::queue("events").stream(StreamReader::new("r", store.clone())).prefetch(100);
    let service = started(app.consume(consume, move || Counter { tally: counted.clone() })).await;
    let publishing = actix::spawn(async move {
        for i in 0..MESSAGES {
            out.publish(i.to_string()).await.expect("confirmed");
        }
    });
    let watched = tally.clone();
    until("the stream flows", || watched.distinct() > 1_000).await;
    let killed = Arc::clone(&node);
    tokio::task::spawn_blocking(move || {
        killed.kill().unwrap();
        killed.start_again().unwrap();
    })
    .await
    .unwrap();
    let published = tokio::time::timeout(LONG, publishing).await.expect("confirmed in time");
    if published.is_err() {
        panic!("the service has ended: {:?}", soon("its end", service.wait()).await.map_err(|end| end.to_string()));
    }
    until("all are handled", || tally.distinct() == MESSAGES).await;
    // A publish whose confirm was lost is repeated, so a few messages are in the stream twice.
    let repeated = tally.total() - MESSAGES;
    assert!(repeated < 200, "{repeated}");
    service.shutdown().await.unwrap();
    let stats = service.consumers()[0].1;
    assert_eq!(stats.offsets_removed, 0);
    assert!(store.kept("events", "r").await.unwrap().unwrap() >= MESSAGES as u64);
}

#[actix::test]
async fn kill_9_of_the_broker_in_mid_stream_loses_none_of_20_000_durable_messages() {
    const MESSAGES: usize = 20_000;
    let node = Arc::new(RabbitMq::start().unwrap());
    let (app, out) = app(&node.url());
    let tally = Tally::default();
    let counted = tally.clone();
    let service = started(app.consume(Consume::queue("q"), move || Counter { tally: counted.clone() })).await;
    let confirmed = Arc::new(AtomicUsize::new(0));
    let publishing = {
        let (out, confirmed) = (out.clone(), Arc::clone(&confirmed));
        actix::spawn(async move {
            let mut receipts = Vec::with_capacity(MESSAGES);
            for i in 0..MESSAGES {
                receipts.push(out.enqueue(i.to_string()).await.expect("accepted"));
            }
            for receipt in receipts {
                receipt.confirmed().await.expect("confirmed");
                confirmed.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let watched = tally.clone();
    until("the stream flows", || watched.distinct() > 2_000).await;
    let at_kill = tally.distinct();
    let killed = Arc::clone(&node);
    tokio::task::spawn_blocking(move || {
        killed.kill().unwrap();
        killed.start_again().unwrap();
    })
    .await
    .unwrap();
    assert!(at_kill < MESSAGES, "the broker was killed after the last message");
    tokio::time::timeout(LONG, publishing).await.expect("confirmed in time").unwrap();
    let total = tally.clone();
    tokio::time::timeout(LONG, until("all are handled", || total.distinct() == MESSAGES)).await.unwrap();
    println!(
        "killed at {at_kill} handled; accepted={MESSAGES} confirmed={} handled={} lost={} \
         handled again={} republished={}",
        confirmed.load(Ordering::SeqCst),
        tally.distinct(),
        MESSAGES - tally.distinct(),
        tally.total() - tally.distinct(),
        out.stats().republished,
    );
    assert!(service.connections().iter().all(|connection| connection.connects >= 2));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_broker_that_is_away_at_the_start_and_fails_again_while_we_recover_is_waited_for() {
    let node = Arc::new(RabbitMq::start().unwrap());
    node.stop().unwrap();
    let (app, out) = app(&node.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    let waiting = out.enqueue("accepted before there is a broker".to_owned()).await.unwrap();
    let socket = "app/publish/publish-0/socket";
    until("it tries, and backs off", || service.snapshot().find(socket).is_some_and(|node| node.restarts >= 3)).await;
    for _ in 0..2 {
        let before = service.connections()[0].connects;
        let up = Arc::clone(&node);
        tokio::task::spawn_blocking(move || up.start_again().unwrap()).await.unwrap();
        // The broker is killed again as soon as the first connection is up, so the recovery starts over.
        until("connected", || service.connections()[0].connects > before).await;
        let down = Arc::clone(&node);
        tokio::task::spawn_blocking(move || down.kill().unwrap()).await.unwrap();
    }
    let up = Arc::clone(&node);
    tokio::task::spawn_blocking(move || up.start_again().unwrap()).await.unwrap();
    tokio::time::timeout(LONG, waiting.confirmed()).await.unwrap().expect("confirmed in the end");
    assert_eq!(next(&mut record).await.text, "accepted before there is a broker");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_publisher_waits_and_the_acks_of_consumers_do_not() {
    let node = RabbitMq::start().unwrap();
    let (app, out) = app(&node.url());
    let gate = Arc::new(tokio::sync::Notify::new());
    let go = Arc::clone(&gate);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "held" { Act::Wait(Arc::clone(&go)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("held".to_owned()).await.unwrap();
    next(&mut record).await;
    node.block_publishers().unwrap();
    // The broker blocks a connection at its next publish.
    let blocked = out.enqueue("blocked".to_owned()).await.unwrap();
    until("the connection knows", || service.connections()[0].blocked.is_some()).await;
    assert!(service.connections()[1].blocked.is_none(), "the consumers' connection is not blocked");
    gate.notify_one();
    until("the ack gets through", || service.consumers()[0].1.handled == 1).await;
    node.wait_queue("/", "q", SOON, |depth| depth.unacked == 0).expect("the broker has the ack");
    assert_eq!(out.stats().confirmed, 1, "nothing was confirmed meanwhile");
    node.unblock_publishers().unwrap();
    soon("unblocked", blocked.confirmed()).await.expect("confirmed after all");
    assert_eq!(next(&mut record).await.text, "blocked");
    until("the connection knows that too", || service.connections()[0].blocked.is_none()).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_publisher_holds_its_window_and_its_mailbox_and_everything_else_is_overloaded() {
    let node = RabbitMq::start().unwrap();
    let app = App::new(broker(&node.url())).topology(Topology::new().queue(Queue::quorum("q")));
    let route = || Route::<String>::queue("q").confirms(Confirms::Window(2)).mailbox(2).deadline(SHORT);
    let out = app.publisher(route());
    let service = started(app).await;
    // The first message of a key goes alone, and the others do not wait for it any more.
    until_confirmed(&out, "before").await;
    node.block_publishers().unwrap();
    let blocking = out.enqueue("this one has the broker block".to_owned()).await.unwrap();
    until("the connection shows it", || service.connections()[0].blocked.is_some()).await;

    let enqueued = join_all((0..50).map(|number| out.enqueue(number.to_string()))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = enqueued.into_iter().partition(Result::is_ok);
    assert_eq!(accepted.len(), 3, "window and mailbox have two places each, and one is taken");
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error.kind(), PublishErrorKind::Overloaded), "{error}");
    }
    assert_eq!(out.stats().outstanding, 4);
    let mut waiting = 0;
    for receipt in accepted.into_iter().filter_map(Result::ok).chain([blocking]) {
        let error = receipt.confirmed().await.unwrap_err();
        assert!(matches!(error.kind(), PublishErrorKind::Unknown | PublishErrorKind::Waiting), "{error}");
        waiting += usize::from(matches!(error.kind(), PublishErrorKind::Waiting));
    }
    assert_eq!(waiting, 2, "the window is with the connection, the mailbox is not");
    node.unblock_publishers().unwrap();
    soon("what was accepted arrives after all", out.flush()).await;
    assert_eq!(out.stats().confirmed, 5);
    service.shutdown().await.unwrap();
}

/// Publishes `text`, which has to be confirmed, however short the publisher's deadline is.
async fn until_confirmed(out: &Publisher<String>, text: &str) {
    drop(out.enqueue(text.to_owned()).await.unwrap());
    until("it is confirmed", || out.stats().confirmed == 1).await;
}

#[actix::test]
async fn a_blocked_requester_does_not_pile_questions_up_for_those_who_gave_up() {
    let node = RabbitMq::start().unwrap();
    let app = App::new(broker(&node.url())).topology(Topology::new().queue(Queue::quorum("q")));
    let route = || Route::<String>::queue("q").confirms(Confirms::Window(2)).mailbox(2).deadline(SHORT);
    let asker = app.requester::<String, String>(route());
    let service = started(app).await;
    node.block_publishers().unwrap();
    let ask = || async { join_all((0..4).map(|_| asker.request("anybody?".to_owned()))).await };
    let (mut sent, mut not_sent) = (0, 0);
    for answer in ask().await {
        match answer.unwrap_err().kind() {
            RequestErrorKind::TimedOut => sent += 1,
            RequestErrorKind::NotSent(NotSent::Deadline) => not_sent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sent, not_sent), (2, 2), "the window is with the connection, the mailbox is not");
    assert!(service.connections()[0].blocked.is_some());
    // While the broker blocks, two questions are on the wire and two in the mailbox. That is longer than the requester
    // remembers its callers.
    for _ in 0..6 {
        for answer in ask().await {
            let error = answer.unwrap_err();
            assert!(matches!(error.kind(), RequestErrorKind::Overloaded), "{error}");
        }
    }
    node.unblock_publishers().unwrap();
    until("the connection knows", || service.connections()[0].blocked.is_none()).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_the_broker_times_out_consumes_again() {
    let node = RabbitMq::builder().config("consumer_timeout = 1000").start().unwrap();
    // Channels look for overdue acks once a minute; there is no configuration key for it.
    node.eval("application:set_env(rabbit, channel_tick_interval, 500), <<>>").unwrap();
    let (app, out) = app(&node.url());
    let (factory, mut record) =
        handlers(|seen| if seen.text == "slow" && !seen.redelivered { Act::Hang } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("slow".to_owned()).await.unwrap();
    assert!(!next(&mut record).await.redelivered);
    let again = next(&mut record).await;
    assert!(again.redelivered, "the broker must deliver the message again");
    out.publish("next".to_owned()).await.unwrap();
    assert_eq!(next(&mut record).await.text, "next");
    let tree = service.snapshot();
    let channel = tree.find("app/consume/consume-0/channels/q/channel").unwrap();
    assert_eq!(channel.restarts, 1, "{tree}");
    assert_eq!(service.connections()[1].connects, 1, "a closed channel must not cost the connection:\n{tree}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_retry_whose_queue_is_gone_when_its_wait_is_over_is_not_lost() {
    let node = RabbitMq::start().unwrap();
    // The interval at which the broker tries again to place a dead letter whose queue is missing: by default three
    // minutes.
    node.eval("application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000), <<>>").unwrap();
    let wait = Duration::from_secs(3);
    let policy = Retry::exponential(2, wait, 1.0).unwrap();
    let (first, out) = app(&node.url());
    let (factory, _record) = handlers(|_| Act::Err(Failure::retry("not yet")));
    let service = started(first.consume(Consume::queue("q").retry(policy.clone()), factory)).await;
    out.publish("again".to_owned()).await.unwrap();
    until("its copy waits", || service.consumers()[0].1.retried == 1).await;
    service.shutdown().await.unwrap();
    let raw = Raw::connect(&node.url()).await;
    raw.delete("q").await;
    waited(&raw, wait).await;
    // This service declares the queue again, so the message can reach it.
    let (second, _out) = app(&node.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(second.consume(Consume::queue("q").retry(policy), factory)).await;
    let seen = next(&mut record).await;
    assert_eq!((seen.text.as_str(), seen.attempt), ("again", 2));
    service.shutdown().await.unwrap();
}

/// Waits until a message that is sent now with this time to live has expired by the broker's clock.
async fn waited(raw: &Raw, ttl: Duration) {
    let mut arguments = lapin::types::FieldTable::default();
    arguments.insert("x-message-ttl".into(), lapin::types::AMQPValue::LongLongInt(ttl.as_millis() as i64));
    arguments.insert("x-dead-letter-exchange".into(), lapin::types::AMQPValue::LongString("".into()));
    arguments.insert("x-dead-letter-routing-key".into(), lapin::types::AMQPValue::LongString("probe".into()));
    raw.channel().queue_declare("probe.wait".into(), Default::default(), arguments).await.unwrap();
    raw.channel().queue_declare("probe".into(), Default::default(), Default::default()).await.unwrap();
    raw.put("probe.wait", b"", Default::default()).await;
    raw.take("probe").await;
}
