//! Order: per queue and instance, through publisher and consumer, as far as it is promised.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, testing::TestBroker};
use support::*;
use tokio::sync::{Notify, mpsc};

const MANY: usize = 1_000;

fn app(vhost: &Place) -> App {
    App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q")))
}

/// Enqueues the numbers below `count` and waits for all confirms.
async fn publish(out: &Publisher<String>, count: usize) {
    let mut receipts = Vec::with_capacity(count);
    for n in 0..count {
        receipts.push(out.enqueue(n.to_string()).await.unwrap());
    }
    for receipt in receipts {
        receipt.confirmed().await.unwrap();
    }
}

/// A handler that answers at once, without a future.
struct Plain(mpsc::UnboundedSender<usize>);

impl Actor for Plain {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Plain {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send(text.parse()?)?;
        Ok(())
    }
}

#[actix::test]
async fn one_plain_instance_handles_in_the_order_of_publishing() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q"));
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app.consume(Consume::queue("q"), move || Plain(seen.clone()))).await;
    publish(&out, MANY).await;
    for expected in 0..MANY {
        assert_eq!(soon("a delivery", record.recv()).await, Some(expected));
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn order_holds_while_messages_leave_by_the_mailbox_and_past_it_in_turns() {
    let broker = TestBroker::start().unwrap();
    // In a small window messages wait in the mailbox for confirms, in a large one for the publisher to come to them.
    for window in [3, 1_000] {
        let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q")));
        let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Window(window)));
        let (seen, mut record) = mpsc::unbounded_channel();
        let service = started(app.consume(Consume::queue("q"), move || Plain(seen.clone()))).await;
        publish(&out, 20 * MANY).await;
        for expected in 0..20 * MANY {
            assert_eq!(soon("a delivery", record.recv()).await, Some(expected), "in a window of {window}");
        }
        service.shutdown().await.unwrap();
    }
}

/// Answers later the earlier its message came, and records when it answers.
struct Later(mpsc::UnboundedSender<usize>);

impl Actor for Later {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Later {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let done = self.0.clone();
        Box::pin(async move {
            let n: usize = text.parse()?;
            actix::clock::sleep(Duration::from_millis(20 - 2 * (n as u64 % 10))).await;
            done.send(n)?;
            Ok(())
        })
    }
}

#[actix::test]
async fn concurrency_1_makes_futures_finish_one_after_the_other() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q"));
    let (done, mut record) = mpsc::unbounded_channel();
    let consume = Consume::queue("q").concurrency(1);
    let service = started(app.consume(consume, move || Later(done.clone()))).await;
    publish(&out, 100).await;
    for expected in 0..100 {
        assert_eq!(soon("a delivery", record.recv()).await, Some(expected));
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn two_instances_share_uneven_jobs_as_each_has_room() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "0" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").instances(2).concurrency(1), factory)).await;
    publish(&out, 50).await;
    let mut busy = None;
    for _ in 0..50 {
        let seen = next(&mut record).await;
        match seen.text.as_str() {
            "0" => busy = Some(seen.instance),
            // Whoever has the long job gets none of those that come after it.
            _ => assert!(busy.is_some() && busy != Some(seen.instance), "{seen:?}"),
        }
    }
    until("all but the long job are acked", || service.consumers()[0].1.handled == 49).await;
    go.notify_one();
    until("all are acked", || service.consumers()[0].1.handled == 50).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn with_prefetch_1_the_next_message_comes_when_the_last_is_settled() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app.consume(Consume::queue("q").prefetch(1), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    publish(&out, 20).await;
    for n in 0..20 {
        assert_eq!(next(&mut record).await.text, n.to_string());
        assert_eq!(service.consumers()[0].1.received, n + 1, "one at a time");
        assert_eq!(u64::from(raw.ready("q").await), 19 - n, "the rest waits at the broker");
        go.notify_one();
    }
    until("all are acked", || service.consumers()[0].1.handled == 20).await;
    service.shutdown().await.unwrap();
}

/// What came, without repetitions next to each other: a message published again may come twice, in its place.
fn without_repetitions(numbers: &[usize]) -> Vec<usize> {
    let mut seen = numbers.to_vec();
    seen.dedup();
    seen
}

async fn takes_all(vhost: &Place, at_least: usize) -> Vec<usize> {
    let raw = Raw::connect(vhost.url()).await;
    let mut taken = Vec::new();
    while taken.len() < at_least || raw.ready("q").await > 0 {
        let body = raw.take("q").await.body;
        let labelled = fluffle::wire::Incoming {
            content_type: Some("application/vnd.google.protobuf; proto=google.protobuf.StringValue"),
            content_encoding: None,
            type_name: None,
            body: &body.into(),
        };
        taken.push(fluffle::wire::Wire::<String>::protobuf().decode(&labelled).unwrap().parse().unwrap());
    }
    taken
}

#[actix::test]
async fn confirms_each_keeps_order_across_cut_connections() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Each));
    let service = started(app).await;
    let publishing = {
        let out = out.clone();
        actix_rt::spawn(async move { publish(&out, 300).await })
    };
    for cut in 1..=3 {
        until("some are confirmed", || out.stats().confirmed >= cut * 60).await;
        vhost.close_connections("a test cuts the connection");
    }
    soon("all are confirmed", publishing).await.unwrap();
    assert!(service.connections()[0].connects >= 2, "it was cut");
    service.shutdown().await.unwrap();
    let taken = takes_all(&vhost, 300).await;
    assert_eq!(without_repetitions(&taken), (0..300).collect::<Vec<_>>());
}

#[actix::test]
async fn a_window_keeps_order_on_each_channel_and_loses_nothing_across_a_cut() {
    let vhost = vhost();
    let app = app(&vhost);
    let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Window(100)));
    let service = started(app).await;
    let publishing = {
        let out = out.clone();
        actix_rt::spawn(async move { publish(&out, MANY).await })
    };
    until("some are confirmed", || out.stats().confirmed >= 200).await;
    vhost.close_connections("a test cuts the connection");
    soon("all are confirmed", publishing).await.unwrap();
    assert_eq!(service.connections()[0].connects, 2, "it was cut");
    service.shutdown().await.unwrap();
    let taken = takes_all(&vhost, MANY).await;
    // One run up to the cut, then one from the oldest unconfirmed to the end.
    let breaks: Vec<usize> = (1..taken.len()).filter(|i| taken[*i] != taken[i - 1] + 1).collect();
    match breaks[..] {
        [] => {}
        [at] => assert!(taken[at] <= taken[at - 1] && taken[at - 1] - taken[at] < 100, "{:?}", &taken[at - 1..=at]),
        _ => panic!("more than one break: {breaks:?}"),
    }
    assert_eq!((taken[0], taken[taken.len() - 1]), (0, MANY - 1));
}
