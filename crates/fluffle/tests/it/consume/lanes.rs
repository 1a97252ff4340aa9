//! A consumer over several lanes: each has a channel and a prefetch of its own, memory and switches are shared.

use std::{collections::BTreeMap, sync::Arc};

use fluffle::{
    amqp::{ConsumerState, ConsumerStats},
    prelude::*,
};
use tokio::sync::Notify;

use crate::support::*;

#[actix::test]
async fn the_lanes_of_a_consumer_empty_its_queue_side_by_side_on_channels_of_their_own() {
    let place = vhost();
    let pool = PoolConfig { connections: 2, ..PoolConfig::default() };
    let app = App::new(broker(place.url()).pool(pool)).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let consume = Consume::queue("q").prefetch(2).lanes(3);
    let service = started(app.consume(consume, factory)).await;
    let names: Vec<String> = service.consumers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["q", "q#2", "q#3"]);
    assert_eq!(children(&service.snapshot(), &["handlers"]), names);
    let tree = service.snapshot();
    let on = |connection| children(&tree, &["consume", connection, "channels"]);
    assert_eq!((on("consume-0"), on("consume-1")), (vec!["q".to_owned(), "q#3".to_owned()], vec!["q#2".to_owned()]));
    publish(&out, &["1", "2", "3", "4", "5", "6", "7"]).await;
    let mut instances = BTreeMap::<usize, usize>::new();
    for _ in 0..6 {
        *instances.entry(next(&mut record).await.instance).or_default() += 1;
    }
    assert_eq!(instances.into_values().collect::<Vec<_>>(), [2, 2, 2], "each lane has a prefetch of its own");
    assert!(record.try_recv().is_err());
    go.notify_waiters();
    assert_eq!(next(&mut record).await.text, "7");
    go.notify_one();
    until("all are handled", || service.consumers().iter().map(|(_, lane)| lane.handled).sum::<u64>() == 7).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn the_lanes_of_a_consumer_remember_and_stop_together() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| match seen.text.as_str() {
        "waits" => Act::Wait(Arc::clone(&gate)),
        _ => Act::Err(Failure::reject("no")),
    });
    let switch = KillSwitch::new(0.5, Window::last(10).at_least(5)).unwrap();
    let store = Arc::new(SeenIds::options().in_memory().unwrap());
    let consume = Consume::queue("q").lanes(2).prefetch(1).effectively_once(store).kill_switch(switch);
    let service = started(app.consume(consume, factory)).await;
    let all = |of: fn(&ConsumerStats) -> u64| service.consumers().iter().map(|(_, lane)| of(lane)).sum::<u64>();
    for _ in 0..2 {
        let same = MessageOptions::new().id("same");
        soon("published", out.publish_with("waits".to_owned(), same)).await.unwrap();
    }
    until("each lane has one", || service.consumers().iter().all(|(_, lane)| lane.received == 1)).await;
    go.notify_one();
    until("one is handled, the other known", || (all(|lane| lane.handled), all(|lane| lane.duplicates)) == (1, 1))
        .await;
    assert_eq!(next(&mut record).await.text, "waits");
    publish(&out, &["1", "2", "3", "4"]).await;
    let killed = |(_, lane): &(String, ConsumerStats)| lane.state == ConsumerState::Killed;
    until("both are stopped", || service.consumers().iter().all(killed)).await;
    until("four are dead letters", || all(|lane| lane.dead_lettered) == 4).await;
    assert!(
        service.consumers().iter().all(|(_, lane)| lane.dead_lettered < 4),
        "one lane alone has tripped the switch"
    );
    service.shutdown().await.unwrap();
}
