//! Order of publishing: which messages stay in order through mailbox, window and reconnect.

use fluffle::{prelude::*, testing::TestBroker};
use tokio::sync::mpsc;

use crate::support::*;

const MANY: usize = 1_000;

#[actix::test]
async fn order_holds_while_messages_leave_by_the_mailbox_and_past_it_in_turns() {
    let broker = TestBroker::start().unwrap();
    // With a small window, messages wait in the mailbox for confirms; with a large one, for the publisher's turn.
    for window in [3, 1_000] {
        let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q")));
        let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Window(window)));
        let (seen, mut record) = mpsc::unbounded_channel();
        let service = started(app.consume(Consume::queue("q"), move || Numbers(seen.clone()))).await;
        publish_numbers(&out, 20 * MANY).await;
        for expected in 0..20 * MANY {
            assert_eq!(soon("a delivery", record.recv()).await, Some(expected), "in a window of {window}");
        }
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn order_holds_from_the_first_message_of_each_key_on() {
    const KEYS: usize = 100;
    let broker = TestBroker::start().unwrap();
    let topology = (0..KEYS).fold(Topology::new(), |topology, key| topology.queue(Queue::classic(format!("q{key}"))));
    let app = App::new(broker.client().unwrap()).topology(topology);
    let out = app.publisher::<String>(
        Route::exchange("")
            .key_by(|text: &String| format!("q{}", text.split_once(' ').map_or(text.as_str(), |(key, _)| key))),
    );
    let service = started(app).await;
    let mut receipts = Vec::new();
    for key in 0..KEYS {
        for number in 0..200 {
            receipts.push(out.enqueue(format!("{key} {number}")).await.unwrap());
        }
    }
    for receipt in receipts {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    for key in 0..KEYS {
        let there: Vec<String> = broker
            .read::<String>(&format!("q{key}"))
            .unwrap()
            .iter()
            .map(|read| read.message().unwrap().clone())
            .collect();
        let expected: Vec<String> = (0..200).map(|number| format!("{key} {number}")).collect();
        assert_eq!(there, expected);
    }
    service.shutdown().await.unwrap();
}

/// The numbers without adjacent repetitions. A message that was published again may come twice in a row.
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
            headers: None,
            body: &body.into(),
        };
        taken.push(fluffle::wire::Wire::<String>::protobuf().decode(&labelled).unwrap().parse().unwrap());
    }
    taken
}

#[actix::test]
async fn confirms_each_keeps_order_across_cut_connections() {
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Each));
    let service = started(app).await;
    let publishing = {
        let out = out.clone();
        actix_rt::spawn(async move { publish_numbers(&out, 300).await })
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
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Window(100)));
    let service = started(app).await;
    let publishing = {
        let out = out.clone();
        actix_rt::spawn(async move { publish_numbers(&out, MANY).await })
    };
    until("some are confirmed", || out.stats().confirmed >= 200).await;
    vhost.close_connections("a test cuts the connection");
    soon("all are confirmed", publishing).await.unwrap();
    assert_eq!(service.connections()[0].connects, 2, "it was cut");
    service.shutdown().await.unwrap();
    let taken = takes_all(&vhost, MANY).await;
    // The numbers up to the cut, then those from the oldest unconfirmed one to the end.
    let breaks: Vec<usize> = (1..taken.len()).filter(|i| taken[*i] != taken[i - 1] + 1).collect();
    match breaks[..] {
        [] => {}
        [at] => assert!(taken[at] <= taken[at - 1] && taken[at - 1] - taken[at] < 100, "{:?}", &taken[at - 1..=at]),
        _ => panic!("more than one break: {breaks:?}"),
    }
    assert_eq!((taken[0], taken[taken.len() - 1]), (0, MANY - 1));
}
