//! A publisher over several lanes: each routing key keeps its order.

use std::collections::BTreeMap;

use fluffle::prelude::*;

use crate::support::*;

/// A publisher to `q` with three lanes. The first letter of a message is its key.
async fn over_three_lanes(place: &Place, route: Route<String>) -> (Service, Publisher<String>) {
    let topology = Topology::new().queue(Queue::quorum("q").bind("x", "")).exchange(Exchange::fanout("x"));
    let pool = PoolConfig { connections: 2, ..PoolConfig::default() };
    let app = App::new(broker(place.url()).pool(pool)).topology(topology);
    let out = app.publisher(route.key_by(|text: &String| key(text).to_string()).lanes(3));
    (started(app).await, out)
}

#[actix::test]
async fn the_lanes_of_a_publisher_keep_the_order_of_each_routing_key_alone_or_in_batches() {
    const KEYS: &str = "abcdefghijkl";
    let route = || Route::<String>::exchange("x");
    for route in [route(), route().batch(Batching::default().max_items(7))] {
        let place = vhost();
        let (service, out) = over_three_lanes(&place, route).await;
        for number in 0..30 {
            for key in KEYS.chars() {
                // Dropping the receipt does not withdraw the message.
                drop(soon("accepted", out.enqueue(format!("{key}{number}"))).await.unwrap());
            }
        }
        soon("confirmed", out.flush()).await;
        let lanes = service.publishers();
        assert_eq!(lanes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x", "x#2", "x#3"]);
        assert!(lanes.iter().all(|(_, lane)| lane.confirmed >= 30), "each has keys: {lanes:?}");
        assert_eq!(lanes.iter().map(|(_, lane)| lane.confirmed).sum::<u64>(), 12 * 30);
        assert_eq!((out.stats().accepted, out.stats().confirmed, out.stats().outstanding), (12 * 30, 12 * 30, 0));
        let on = |connection| children(&service.snapshot(), &["publish", connection, "channels"]);
        assert_eq!(
            (on("publish-0"), on("publish-1")),
            (vec!["x".to_owned(), "x#3".to_owned()], vec!["x#2".to_owned()])
        );
        let mut of_key = BTreeMap::<char, Vec<usize>>::new();
        let (factory, mut record) = handlers(|_| Act::Ok);
        service.consume(Consume::queue("q"), factory).await.unwrap();
        for _ in 0..12 * 30 {
            let text = next(&mut record).await.text;
            of_key.entry(key(&text)).or_default().push(text[1..].parse().unwrap());
        }
        for (key, numbers) in of_key {
            assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "key {key}");
        }
        drop(out);
        until("all lanes are closed", || {
            let tree = service.snapshot();
            let publishing = ["publish-0", "publish-1"].map(|one| children(&tree, &["publish", one, "channels"]));
            publishing.into_iter().flatten().eq(["q/copies"])
        })
        .await;
        nothing_left(&place, service).await;
    }
}

#[actix::test]
async fn a_journal_has_one_lane() {
    let place = vhost();
    let folder = tempfile::tempdir().unwrap();
    let app = app_with_q(place.url());
    let journal = Journal::options().open(folder.path().join("x.journal")).unwrap();
    let _out = app.publisher::<String>(Route::queue("q").journal(journal).lanes(2));
    let said = contradiction(app).await;
    assert!(said.contains("journal") && said.contains("`lanes`"), "{said}");
}
