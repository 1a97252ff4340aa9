//! Entities that exist with other properties than declared.

use super::{Client, minutes};
use crate::topology::{
    Difference, Entity, Exchange, Overflow, Queue, Topology, TopologyError, TopologyErrorKind as Kind,
};
use lapin::options::QueueDeleteOptions;

#[tokio::test]
async fn a_queue_conflict_names_the_argument_and_both_values() {
    let client = Client::new().await;
    let classic = || Queue::classic("q");
    let quorum = || Queue::quorum("q");
    let stream = || Queue::stream("q");
    let cases: Vec<(Queue, Queue, [&str; 3])> = vec![
        (classic(), classic().transient(), ["durable", "false", "true"]),
        (classic(), classic().auto_delete(), ["auto_delete", "true", "false"]),
        (classic(), quorum(), ["x-queue-type", "quorum", "classic"]),
        (quorum(), stream(), ["x-queue-type", "stream", "quorum"]),
        (classic(), classic().message_ttl(minutes(1)), ["x-message-ttl", "60000", "-"]),
        (classic().message_ttl(minutes(1)), classic(), ["x-message-ttl", "-", "60000"]),
        (quorum().message_ttl(minutes(1)), quorum().message_ttl(minutes(2)), ["x-message-ttl", "120000", "60000"]),
        (quorum().expires(minutes(1)), quorum().expires(minutes(2)), ["x-expires", "120000", "60000"]),
        (classic().max_length(1), classic().max_length(2), ["x-max-length", "2", "1"]),
        (stream().max_bytes(1), stream().max_bytes(2), ["x-max-length-bytes", "2", "1"]),
        (classic(), classic().overflow(Overflow::RejectPublish), ["x-overflow", "reject-publish", "-"]),
        (
            classic().overflow(Overflow::DropHead),
            classic().overflow(Overflow::RejectPublishDlx),
            ["x-overflow", "reject-publish-dlx", "drop-head"],
        ),
        (
            classic().dead_letter_to("a", ""),
            classic().dead_letter_to("it's 'b'", ""),
            ["x-dead-letter-exchange", "it's 'b'", "a"],
        ),
        (
            classic().dead_letter_to("a", "k"),
            classic().dead_letter_to("a", ""),
            ["x-dead-letter-routing-key", "-", "k"],
        ),
        (
            quorum().dead_letter_to("", "q.dead").overflow(Overflow::RejectPublish),
            quorum().dead_letter(),
            ["x-dead-letter-strategy", "at-least-once", "-"],
        ),
        (classic().max_priority(3), classic().max_priority(5), ["x-max-priority", "5", "3"]),
        (classic(), classic().single_active_consumer(), ["x-single-active-consumer", "true", "-"]),
        (quorum().delivery_limit(3), quorum().delivery_limit(4), ["x-delivery-limit", "4", "3"]),
        (stream().max_age(minutes(1)), stream().max_age(minutes(2)), ["x-max-age", "120s", "60s"]),
        (classic(), classic().argument("x-queue-mode", "lazy"), ["x-queue-mode", "lazy", "-"]),
    ];
    for (existing, declared, [argument, ours, theirs]) in cases {
        client.declare(&Topology::new().queue(existing)).await.unwrap();
        let error = client.declare(&Topology::new().queue(declared)).await.unwrap_err();
        assert_conflict(&error, Entity::Queue("q".into()), argument, ours, theirs);
        let channel = client.connection.create_channel().await.unwrap();
        channel.queue_delete("q".into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn an_exchange_conflict_names_the_argument_and_both_values() {
    let client = Client::new().await;
    let topic = || Exchange::topic("x").alternate("a");
    client.declare(&Topology::new().exchange(topic())).await.unwrap();
    let cases = [
        (Exchange::direct("x").alternate("a"), ["type", "direct", "topic"]),
        (topic().transient(), ["durable", "false", "true"]),
        (topic().auto_delete(), ["auto_delete", "true", "false"]),
        (topic().internal(), ["internal", "true", "false"]),
        (topic().alternate("b"), ["alternate-exchange", "b", "a"]),
        (Exchange::topic("x"), ["alternate-exchange", "-", "a"]),
    ];
    for (declared, [argument, ours, theirs]) in cases {
        let error = client.declare(&Topology::new().exchange(declared)).await.unwrap_err();
        assert_conflict(&error, Entity::Exchange("x".into()), argument, ours, theirs);
    }
}

/// "-" stands for an absent argument.
#[track_caller]
fn assert_conflict(error: &TopologyError, about: Entity, argument: &str, ours: &str, theirs: &str) {
    let value = |text: &str| (text != "-").then(|| text.to_owned());
    let Kind::Conflict { entity, difference, .. } = error.kind() else {
        panic!("{argument}: {error:?}");
    };
    let expected = Difference { argument: argument.into(), declared: value(ours), existing: value(theirs) };
    assert_eq!((entity, difference), (&about, &Some(expected)));
    assert!(error.is_permanent());
}
