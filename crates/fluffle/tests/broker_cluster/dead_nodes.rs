//! A node of the cluster is killed: what was on it, and what was not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use fluffle_harness::Cluster;
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};

use crate::{load::*, support::*};

/// Much longer than an election, and much shorter than the time after which a missing confirm ends a channel.
const SOON: Duration = Duration::from_secs(20);

/// A durable classic queue lives on the node to which the connection that declares it is connected.
async fn declare_classic(url: &str, name: &str) {
    let connection = soon("connected", Connection::connect(url, ConnectionProperties::default())).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("classic".into()));
    channel.queue_declare(name.into(), options, arguments).await.unwrap();
    soon("closed", connection.close(200, "declared".into())).await.unwrap();
}

#[actix::test]
async fn of_a_killed_node_only_the_users_of_its_own_queue_take_notice_and_nothing_is_lost() {
    let cluster = Arc::new(blocking(|| Cluster::start().unwrap()).await);
    declare_classic(&cluster.urls()[2], "lonely").await;
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::classic("lonely"));
    let app = App::new(broker(&cluster.url())).topology(topology);
    let out = app.publisher::<String>(Route::queue("q").deadline(LONG));
    let lonely = app.publisher::<String>(Route::queue("lonely").deadline(LONG).name("to lonely"));
    let (seen, alone) = (Handled::default(), Handled::default());
    let (counted, counted_alone) = (seen.clone(), alone.clone());
    let app = app.consume(Consume::queue("q").prefetch(50), move || Counting(counted.clone()));
    let app = app.consume(Consume::queue("lonely"), move || Counting(counted_alone.clone()));
    let service = started(app).await;
    let mut endpoints: Vec<String> =
        service.status().connections.into_iter().filter_map(|connection| connection.endpoint).collect();
    endpoints.sort();
    endpoints.dedup();
    assert!(endpoints.len() > 1, "all connections are on {endpoints:?}");

    let load = Load::begin(out);
    load.more(200).await;
    let moved = Arc::clone(&cluster);
    blocking(move || moved.move_leader("/", "q", 2).unwrap()).await;
    let killed = Arc::clone(&cluster);
    blocking(move || killed.node(2).unwrap().kill().unwrap()).await;
    let to_lonely = actix::spawn(async move { lonely.publish("0".to_owned()).await });
    load.more(500).await;
    let unreachable = || service.status().connections[0].unreachable.clone();
    until("the queue is known to be away", || !unreachable().is_empty()).await;
    let why = unreachable().join(" ");
    assert!(why.contains("\"lonely\" cannot be reached, because its node "), "{why}");
    assert!(!to_lonely.is_finished(), "the message waits for its queue: {:?}", to_lonely.await);

    let started_again = Arc::clone(&cluster);
    blocking(move || {
        started_again.node(2).unwrap().start_again().unwrap();
        started_again.wait_healthy(LONG).unwrap();
    })
    .await;
    tokio::time::timeout(LONG, to_lonely).await.expect("in time").unwrap().expect("its queue is back");
    until("the queue is known to be back", || unreachable().is_empty()).await;
    until("and is consumed from", || alone.count() > 0).await;
    load.more(200).await;
    let published = load.end().await;
    seen.all_of(published).await;
    let again = seen.complete_and_in_order(published);
    let pause = seen.longest_pause();
    eprintln!("published={published} again={again} longest_pause={pause:?}");
    assert!(pause < Duration::from_secs(60), "the service waited for the node: {pause:?}");
    service.shutdown().await.unwrap();
}

/// A channel that is opened just after the death of a leader may be refused everything on: RabbitMQ's channel asks the
/// dead node.
#[actix::test]
async fn a_publisher_on_the_killed_node_that_led_the_queue_goes_on_when_another_leads_whether_or_not_it_republishes() {
    let cluster = Arc::new(blocking(|| Cluster::start().unwrap()).await);
    let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("never"));
    let app = App::new(broker(&cluster.url()).endpoint_order(EndpointOrder::Listed)).topology(topology);
    let out = app.publisher::<String>(Route::queue("q").deadline(LONG));
    let never = app.publisher::<String>(Route::queue("never").deadline(LONG).republish(Republish::Never));
    let service = started(app).await;
    for number in 0..50 {
        out.publish(number.to_string()).await.unwrap();
        never.publish(number.to_string()).await.unwrap();
    }
    let killed = Arc::clone(&cluster);
    blocking(move || {
        killed.move_leader("/", "q", 0).unwrap();
        killed.move_leader("/", "never", 0).unwrap();
        killed.node(0).unwrap().kill().unwrap();
    })
    .await;
    let begun = Instant::now();
    tokio::time::timeout(SOON, out.publish("after".to_owned())).await.expect("soon").unwrap();
    let (mut refused, since) = (0, begun.elapsed());
    while let Err(error) = never.publish("after".to_owned()).await {
        assert!(begun.elapsed() < SOON, "still refused: {error}");
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("published after {since:?}, and after {refused} refusals that the sender was told of");
    service.shutdown().await.unwrap();
}
