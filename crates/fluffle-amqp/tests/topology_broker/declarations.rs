//! Declared entities exist, route messages, and can be declared again.

use lapin::types::{AMQPValue, FieldTable};

use super::{Client, connect, declare_on, everything, exists, holds_a_message, publish};
use crate::link::declare::Scope;
use crate::topology::{Exchange, Match, Queue, Topology};

#[tokio::test]
async fn every_kind_and_argument_declares_and_declares_again_alike() {
    let client = Client::new().await;
    client.declare(&everything()).await.unwrap();
    client.declare(&everything()).await.unwrap();
    for queue in everything().queues() {
        assert!(exists(&client, queue.name()).await, "{}", queue.name());
    }
}

#[tokio::test]
async fn what_is_listed_first_may_bind_to_what_is_listed_last() {
    let client = Client::new().await;
    let topology = Topology::new()
        .queue(Queue::classic("q").bind("inner", "").bind("outer", "direct.#"))
        .exchange(Exchange::fanout("inner").bind("outer", "inner.#"))
        .exchange(Exchange::topic("outer"));
    client.declare(&topology).await.unwrap();
    let channel = client.channel().await;
    for key in ["inner.a", "direct.a"] {
        publish(&channel, "outer", key, FieldTable::default()).await;
        assert!(holds_a_message(&channel, "q").await, "{key}");
    }
}

#[tokio::test]
async fn headers_and_alternate_exchange_route() {
    let client = Client::new().await;
    let topology = Topology::new()
        .exchange(Exchange::headers("h").alternate("rest"))
        .exchange(Exchange::fanout("rest"))
        .queue(Queue::classic("all").bind_headers("h", Match::All, [("a", 1), ("b", 2)]))
        .queue(Queue::classic("any").bind_headers("h", Match::Any, [("a", 1), ("b", 2)]))
        .queue(Queue::classic("rest").bind("rest", ""));
    client.declare(&topology).await.unwrap();
    let channel = client.channel().await;
    let cases = [
        (vec![("a", 1), ("b", 2)], [true, true, false]),
        (vec![("a", 1)], [false, true, false]),
        (vec![("a", 2)], [false, false, true]),
    ];
    for (headers, expected) in cases {
        let mut table = FieldTable::default();
        for (name, value) in &headers {
            table.insert((*name).into(), AMQPValue::LongLongInt(*value));
        }
        publish(&channel, "h", "", table).await;
        for (queue, expected) in ["all", "any", "rest"].iter().zip(expected) {
            assert_eq!(holds_a_message(&channel, queue).await, expected, "{queue} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_temporary_queue_is_declared_by_its_connection_alone_and_again_under_its_name() {
    let client = Client::new().await;
    let topology =
        Topology::new().exchange(Exchange::fanout("news")).queue(Queue::temporary("screen").bind("news", ""));
    let name = topology.find_queue("screen").unwrap().name().to_owned();
    client.declare(&topology).await.unwrap();
    assert!(!exists(&client, &name).await);

    let scope = Scope::Queues(&["screen"]);
    for _ in 0..2 {
        let consumer = connect(client.vhost.url()).await;
        declare_on(&consumer, &topology, scope).await.unwrap();
        publish(&client.channel().await, "news", "", FieldTable::default()).await;
        let channel = consumer.create_channel().await.unwrap();
        assert!(holds_a_message(&channel, &name).await);
        consumer.close(200, "done".into()).await.unwrap();
        assert!(!exists(&client, &name).await);
    }
}
