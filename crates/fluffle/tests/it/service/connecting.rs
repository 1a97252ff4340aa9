//! Connecting: what is negotiated with the broker, and which address is used.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use fluffle::prelude::*;

use crate::support::*;

/// The heartbeat intervals, in seconds, that the clients of a broker have agreed to (`connection.tune-ok`), and how
/// many heartbeats they have sent.
fn agreed(heard: &Heard) -> Vec<(u16, usize)> {
    let all = heard.lock().unwrap();
    all.iter()
        .map(|sent| frames(&sent.lock().unwrap()))
        .map(|frames| {
            let tune_ok = frames.iter().find_map(|(kind, payload)| match (kind, &payload[..]) {
                (1, [0, 10, 0, 31, .., high, low]) => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            (tune_ok.expect("a handshake"), frames.iter().filter(|(kind, _)| *kind == 8).count())
        })
        .collect()
}

/// Kind and payload of each whole frame that a client sent (AMQP 0-9-1, 2.3.5).
fn frames(mut sent: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    sent = sent.strip_prefix(b"AMQP\x00\x00\x09\x01").expect("the protocol header");
    while let [kind, _, _, a, b, c, d, rest @ ..] = sent {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = rest.get(..size) else { break };
        frames.push((*kind, payload.to_vec()));
        sent = rest.get(size + 1..).unwrap_or_default();
    }
    frames
}

/// The broker proposes a heartbeat interval. A client that answers 0 turns heartbeats off.
#[actix::test]
async fn heartbeats_that_are_off_are_off_whatever_the_broker_proposes() {
    let vhost = vhost();
    for (query, own, expected) in [("?heartbeat=0", 10, 0), ("", 0, 0), ("?heartbeat=1", 0, 1), ("", 7, 7)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = vhost.url().replace(&format!(":{}", vhost.port()), &format!(":{port}"));
        let heard = forward(listener, vhost.port());
        let broker = broker(&format!("{url}{query}")).heartbeat(Duration::from_secs(own));
        let service = started(App::new(broker)).await;
        if expected == 1 {
            until("heartbeats", || agreed(&heard).iter().all(|(_, heartbeats)| *heartbeats > 0)).await;
        }
        for (interval, heartbeats) in agreed(&heard) {
            assert_eq!(interval, expected, "{query} {own}");
            assert_eq!(heartbeats > 0, expected == 1);
        }
        service.shutdown().await.unwrap();
    }
}

/// If endpoints were tried one after the other, one that does not answer would cost its whole time limit at each
/// reconnect.
#[actix::test]
async fn an_endpoint_that_accepts_and_says_nothing_costs_a_moment() {
    let vhost = vhost();
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let broker = broker(&format!("amqp://127.0.0.1:{port},{}", vhost.url())).connect_timeout(SOON);
    let begun = Instant::now();
    let service = started(App::new(broker)).await;
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    service.shutdown().await.unwrap();
}

/// One channel of each connection is reserved for declaring the topology.
#[actix::test]
async fn fewer_channels_in_the_uri_make_more_connections_and_an_error_that_says_what_to_raise() {
    let vhost = vhost();
    let pool = PoolConfig { acquire_timeout: Duration::from_millis(300), max_connections: 3, ..PoolConfig::default() };
    let broker = broker(&format!("{}?channel_max=3", vhost.url())).pool(pool);
    let topology = Topology::new().exchange(Exchange::fanout("x")).queue(Queue::classic("q").bind("x", ""));
    let app = App::new(broker).topology(topology);
    let before: Vec<_> = (0..3).map(|_| app.publisher::<String>(Route::exchange("x"))).collect();
    let service = started(app).await;
    let mut all = before;
    for _ in 0..3 {
        all.push(service.publisher(Route::exchange("x")).await.unwrap());
    }
    for out in &all {
        soon("a confirm", out.publish("a".to_owned())).await.unwrap();
    }
    let publishing = service.connections().into_iter().filter(|one| one.name.starts_with("publish-"));
    assert_eq!(publishing.map(|one| one.connects).collect::<Vec<_>>(), [1, 1, 1]);
    let error = service.publisher::<String>(Route::queue("q")).await.unwrap_err().to_string();
    for word in ["3 connections with 2 channels each", "max_connections", "channel_max"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // The reserved channel declares the exchange again.
    Raw::connect(vhost.url()).await.channel().exchange_delete("x".into(), Default::default()).await.unwrap();
    soon("a confirm", all[0].publish("b".to_owned())).await.unwrap();
    service.shutdown().await.unwrap();
}
