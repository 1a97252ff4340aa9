//! The connection pool: places for channels are taken, waited for and given back, and idle connections are closed.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use fluffle::{
    amqp::{PoolError, Role, ServiceError},
    prelude::*,
};

use crate::support::*;

const IDLE: Duration = Duration::from_millis(700);

/// One connection with two places; a second one opens when they are taken, and closes when it was idle.
fn two_and_two() -> PoolConfig {
    PoolConfig {
        connections: 1,
        max_connections: 2,
        spread: 2,
        channels: 2,
        acquire_timeout: Duration::from_millis(300),
        idle_timeout: IDLE,
    }
}

/// A running service on one queue `q`; its connections are named after the vhost.
async fn service(vhost: &Place, pool: PoolConfig) -> Service {
    let broker = broker(vhost.url()).name(vhost.name()).pool(pool);
    started(App::new(broker).topology(Topology::new().queue(Queue::classic("q")))).await
}

async fn publisher(service: &Service) -> Publisher<String> {
    service.publisher(Route::queue("q")).await.expect("a place")
}

async fn publishers(service: &Service, count: usize) -> Vec<Publisher<String>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(publisher(service).await);
    }
    soon("ready", service.ready()).await.unwrap();
    all
}

/// This vhost's connections at the broker, by their names without the vhost's name in front.
fn at_the_broker(vhost: &Place) -> Vec<(String, OpenConnection)> {
    let prefix = format!("{}/", vhost.name());
    let named = |one: OpenConnection| (one.client_name.trim_start_matches(&prefix).to_owned(), one);
    let mut all: Vec<_> = vhost.connections().into_iter().map(named).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn names(vhost: &Place) -> Vec<String> {
    at_the_broker(vhost).into_iter().map(|(name, _)| name).collect()
}

fn channels(vhost: &Place, connection: &str) -> usize {
    at_the_broker(vhost).into_iter().find(|(name, _)| name == connection).map_or(0, |(_, one)| one.channels)
}

fn exhausted(error: ServiceError) -> (Role, usize, usize, Duration, String) {
    let text = error.to_string();
    match error {
        ServiceError::Pool(PoolError::Exhausted { role, connections, channels, waited }) => {
            (role, connections, channels, waited, text)
        }
        other => panic!("{other}"),
    }
}

#[actix::test]
async fn publishing_and_consuming_never_share_a_socket() {
    let vhost = vhost();
    let broker = broker(vhost.url()).name(vhost.name());
    let app = App::new(broker).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("a".to_owned()).await.unwrap();
    next(&mut record).await;
    assert_eq!(names(&vhost), ["consume-0", "publish-0"]);
    assert_eq!(channels(&vhost, "consume-0"), 1, "the consumer");
    assert_eq!(channels(&vhost, "publish-0"), 2, "the publisher, and the consumer's copies");
    service.shutdown().await.unwrap();
    until("both are closed", || names(&vhost).is_empty()).await;
}

#[actix::test]
async fn another_connection_opens_when_every_place_is_taken_and_not_before() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let mut all = publishers(&service, 2).await;
    assert_eq!(names(&vhost), ["consume-0", "publish-0"]);
    all.extend(publishers(&service, 1).await);
    assert_eq!(names(&vhost), ["consume-0", "publish-0", "publish-1"]);
    for out in &all {
        out.publish("works".to_owned()).await.unwrap();
    }
    let open: Vec<String> = service.connections().into_iter().map(|one| one.name).collect();
    assert_eq!(open, ["publish-0", "publish-1", "consume-0"]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_connection_with_its_share_of_channels_gets_company_before_it_is_filled() {
    let vhost = vhost();
    let pool = PoolConfig { spread: 1, ..two_and_two() };
    let service = service(&vhost, pool).await;
    let mut all = publishers(&service, 2).await;
    until("one each", || (channels(&vhost, "publish-0"), channels(&vhost, "publish-1")) == (1, 1)).await;
    all.extend(publishers(&service, 2).await);
    until("two each", || (channels(&vhost, "publish-0"), channels(&vhost, "publish-1")) == (2, 2)).await;
    exhausted(service.publisher::<String>(Route::queue("q")).await.unwrap_err());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn when_nothing_is_given_back_in_time_the_error_says_what_to_raise() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let all = publishers(&service, 4).await;
    let begun = Instant::now();
    let refused = service.publisher::<String>(Route::queue("q")).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let (role, connections, channels, waited, text) = exhausted(refused);
    assert_eq!((role, connections, channels, waited), (Role::Publish, 2, 2, Duration::from_millis(300)));
    for word in ["publish", "2 connections", "2 channels", "300ms", "max_connections", "PoolConfig::channels"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    all[3].publish("goes on".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_that_finds_no_place_leaves_no_handlers_behind() {
    let vhost = vhost();
    let pool = PoolConfig { max_connections: 1, channels: 1, ..two_and_two() };
    let service = service(&vhost, pool).await;
    let (factory, _record) = handlers(|_| Act::Ok);
    service.consume(Consume::queue("q"), factory).await.unwrap();
    let (factory, _record) = handlers(|_| Act::Ok);
    let refused = service.consume(Consume::queue("q"), factory).await.unwrap_err();
    assert_eq!(exhausted(refused).0, Role::Consume);
    let snapshot = service.snapshot();
    assert!(snapshot.find("app/handlers/q").is_some(), "{snapshot}");
    assert!(snapshot.find("app/handlers/q#2").is_none(), "{snapshot}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn who_waits_for_a_place_gets_the_first_that_is_given_back() {
    let vhost = vhost();
    let pool = PoolConfig { acquire_timeout: SOON, ..two_and_two() };
    let service = service(&vhost, pool).await;
    let mut all = publishers(&service, 4).await;
    let waiting = {
        let service = service.clone();
        actix_rt::spawn(async move { service.publisher::<String>(Route::queue("q")).await })
    };
    let clone = all[0].clone();
    drop(all.remove(0));
    all[0].publish("meanwhile".to_owned()).await.unwrap();
    assert!(!waiting.is_finished(), "a clone still holds the place");
    drop(clone);
    let out = soon("a place", waiting).await.unwrap().expect("a place");
    out.publish("in the place given back".to_owned()).await.unwrap();
    assert_eq!(names(&vhost).len(), 3, "no connection more than allowed");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn the_last_handle_of_a_publisher_takes_its_channel_with_it_once_all_is_confirmed() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let out = publishers(&service, 1).await.remove(0);
    let mut receipts = Vec::new();
    for n in 0..200 {
        receipts.push(out.enqueue(n.to_string()).await.unwrap());
    }
    drop(out);
    for receipt in receipts {
        receipt.confirmed().await.unwrap();
    }
    until("its part of the tree is gone", || service.snapshot().find("app/publish/publish-0/channels/q").is_none())
        .await;
    until("its channel is closed", || channels(&vhost, "publish-0") == 0).await;
    vhost.wait_depth("q", |depth| depth.ready == 200);
    soon("the rest runs", service.ready()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_a_dropped_publisher_had_accepted_outlives_a_cut_connection() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let out = publishers(&service, 1).await.remove(0);
    vhost.close_connections("a test cuts the connection");
    let mut receipts = Vec::new();
    for n in 0..50 {
        receipts.push(out.enqueue(n.to_string()).await.unwrap());
    }
    drop(out);
    for receipt in receipts {
        receipt.confirmed().await.unwrap();
    }
    service.shutdown().await.unwrap();
    assert!(vhost.depth("q").ready >= 50);
}

#[actix::test]
async fn the_last_handle_of_a_requester_gives_its_place_back() {
    let vhost = vhost();
    let pool = PoolConfig { max_connections: 1, channels: 1, acquire_timeout: SOON, ..two_and_two() };
    let service = service(&vhost, pool).await;
    let ask: Requester<String, String> = service.requester(Route::queue("q")).await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    drop(ask);
    soon("a place", service.publisher::<String>(Route::queue("q"))).await.expect("a place");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_idle_extra_connection_is_closed_and_the_first_one_stays() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let all = publishers(&service, 3).await;
    assert_eq!(names(&vhost), ["consume-0", "publish-0", "publish-1"]);
    let begun = Instant::now();
    drop(all);
    until("the extra one is closed", || names(&vhost) == ["consume-0", "publish-0"]).await;
    assert!(begun.elapsed() >= IDLE, "closed before it was idle for {IDLE:?}: {:?}", begun.elapsed());
    until("its part of the tree is gone", || service.snapshot().find("app/publish/publish-1").is_none()).await;
    assert_eq!(service.connections().len(), 2);
    let again = publishers(&service, 3).await;
    assert_eq!(names(&vhost), ["consume-0", "publish-0", "publish-2"], "it opens again when it is needed again");
    again[2].publish("works".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_extra_connection_that_is_used_again_in_time_stays_open() {
    let vhost = vhost();
    let service = service(&vhost, two_and_two()).await;
    let mut all = publishers(&service, 3).await;
    let begun = Instant::now();
    drop(all.pop());
    until("its channel is closed", || channels(&vhost, "publish-1") == 0).await;
    let again = publishers(&service, 1).await;
    assert!(begun.elapsed() < IDLE, "the machine is too slow for this test: {:?}", begun.elapsed());
    // Wait until the idle time counted from the first use is over.
    tokio::time::sleep_until((begun + IDLE * 2).into()).await;
    assert_eq!(names(&vhost), ["consume-0", "publish-0", "publish-1"]);
    again[0].publish("works".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

/// Without a close, the broker drops the bytes that it has not read. The last acks may be among them; their messages
/// are then delivered again.
#[actix::test]
async fn a_shutdown_says_good_bye_on_each_channel_and_connection() {
    let vhost = vhost();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url =
        vhost.url().replace(&format!(":{}", vhost.port()), &format!(":{}", listener.local_addr().unwrap().port()));
    let heard = forward(listener, vhost.port());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = App::new(broker(&url)).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("one".to_owned()).await.unwrap();
    next(&mut record).await;
    service.shutdown().await.unwrap();
    let sent: Vec<Vec<u8>> = heard.lock().unwrap().iter().map(|sent| sent.lock().unwrap().clone()).collect();
    assert_eq!(sent.len(), 2, "one connection to publish on, one to consume on");
    for sent in sent {
        let methods = methods(&sent);
        let count = |method| methods.iter().filter(|one| **one == method).count();
        assert_eq!(count(CHANNEL_CLOSE), count(CHANNEL_OPEN), "{methods:?}");
        assert_eq!(methods.last(), Some(&CONNECTION_CLOSE), "{methods:?}");
    }
}

const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);

/// Class and method of each method frame that a client sent (AMQP 0-9-1, 2.3.5).
fn methods(mut sent: &[u8]) -> Vec<(u16, u16)> {
    let mut methods = Vec::new();
    sent = sent.strip_prefix(b"AMQP\x00\x00\x09\x01").expect("the protocol header");
    while let [kind, _, _, a, b, c, d, rest @ ..] = sent {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if let (1, [a, b, c, d, ..]) = (kind, rest) {
            methods.push((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
        }
        sent = &rest[size + 1..];
    }
    methods
}
