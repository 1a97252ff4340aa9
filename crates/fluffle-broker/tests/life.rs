//! Starting, stopping, killing, starting again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{channel, connect, consume, durable, publish, run, until};
use fluffle_broker::Broker;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicGetOptions, ConfirmSelectOptions};

#[test]
fn a_message_goes_through_confirmed_and_acked() {
    let broker = Broker::start().unwrap();
    run(async {
        let channel = channel(&broker).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        durable(&channel, "q").await;
        publish(&channel, "q", b"hello", true).await;
        let delivery = consume(&channel, "q").await.next().await.unwrap().unwrap();
        assert_eq!((&delivery.data[..], delivery.redelivered), (&b"hello"[..], false));
        assert_eq!(broker.snapshot().unwrap().queue("q").unwrap().unacked, 1);
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    });
    let snapshot = until(&broker, |state| state.queue("q").is_some_and(|q| q.unacked == 0));
    assert_eq!(snapshot.queue("q").unwrap().ready, 0);
}

#[test]
fn durable_queues_and_persistent_messages_survive_stop_and_kill() {
    for kill in [false, true] {
        let broker = Broker::start().unwrap();
        let port = broker.port();
        run(async {
            let channel = channel(&broker).await;
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            durable(&channel, "kept").await;
            channel.queue_declare("lost".into(), Default::default(), Default::default()).await.unwrap();
            for persistent in [true, false, true] {
                publish(&channel, "kept", b"m", persistent).await;
            }
            consume(&channel, "kept").await.next().await.unwrap().unwrap();
        });
        if kill { broker.kill() } else { broker.stop() }.unwrap();
        assert!(std::net::TcpStream::connect(broker.address()).is_err(), "it still listens");
        broker.start_again().unwrap();
        assert_eq!(broker.port(), port);
        let snapshot = broker.snapshot().unwrap();
        assert!(snapshot.queue("lost").is_none());
        assert!(snapshot.connections.is_empty());
        let kept = snapshot.queue("kept").unwrap();
        assert_eq!((kept.ready, kept.unacked, kept.consumers), (2, 0, 0));
        run(async {
            let channel = channel(&broker).await;
            let first = channel.basic_get("kept".into(), BasicGetOptions::default()).await.unwrap().unwrap();
            assert!(first.redelivered, "it was delivered before");
        });
    }
}

#[test]
fn stop_closes_connections_with_320_and_kill_without_a_word() {
    for kill in [false, true] {
        let broker = std::sync::Arc::new(Broker::start().unwrap());
        run(async {
            let connection = connect(&broker).await;
            let mut events = connection.events_listener();
            let (error, told) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    if let lapin::Event::Error(problem) = event {
                        let _ = error.send(problem);
                        return;
                    }
                }
            });
            // Stop the broker from another thread, so that the client's runtime can answer the close.
            let owner = broker.clone();
            let end = move || if kill { owner.kill() } else { owner.stop() };
            tokio::task::spawn_blocking(end).await.unwrap().unwrap();
            let problem = told.await.unwrap();
            let forced = problem.to_string().contains("CONNECTION_FORCED") || format!("{problem:?}").contains("320");
            assert_eq!(forced, !kill, "{problem:?}");
        });
    }
}

#[test]
fn it_starts_in_under_twenty_milliseconds() {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            let broker = Broker::start().unwrap();
            let took = start.elapsed();
            drop(broker);
            took
        })
        .min()
        .unwrap();
    println!("started in {best:?}");
    assert!(best < Duration::from_millis(20), "{best:?}");
}

#[test]
fn dropping_it_ends_it() {
    let broker = Broker::start().unwrap();
    let address = broker.address();
    drop(broker);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let first = Broker::start().unwrap();
    let second = Broker::builder().listen(first.address()).start();
    assert!(matches!(second, Err(fluffle_broker::BrokerError::Listen { .. })));
}
