//! Bytes that make lapin's parser fail in spite of the sanitizer: the consumers of the connection get connections of
//! their own.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
};

use fluffle::amqp::ConsumerState;

use super::*;

/// A proxy to `port`. It damages each frame from there that ends in `poison`. Returns the proxy's port.
fn poisoned(port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", port))) else { return };
            let (client_too, broker_too) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            std::thread::spawn(move || pass(client, broker, |_| ()));
            std::thread::spawn(move || pass(broker_too, client_too, break_poison));
        }
    });
    here
}

fn pass(mut from: TcpStream, mut to: TcpStream, change: fn(&mut [u8])) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

/// Damages the octet after `poison`, which is the end of the frame.
fn break_poison(bytes: &mut [u8]) {
    const POISON: &[u8] = b"poison";
    let found = bytes.windows(POISON.len() + 1).position(|window| window.starts_with(POISON));
    if let Some(at) = found {
        bytes[at + POISON.len()] = 0;
    }
}

#[actix::test]
async fn a_connection_that_dies_twice_in_its_parser_is_not_shared_any_more_and_the_innocent_go_on() {
    let place = vhost();
    let url = place.url().replace(&format!(":{}/", place.port()), &format!(":{}/", poisoned(place.port())));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let (innocents, mut innocent) = handlers(|_| Act::Ok);
    let app = App::new(broker(&url))
        .topology(
            Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("innocent").dead_letter()),
        )
        .consume(Consume::queue("q").retry(retry(3)), factory)
        .consume(Consume::queue("innocent").retry(retry(3)), innocents);
    let service = started(app).await;
    let raw = Raw::connect(place.url()).await;
    raw.put("q", b"\x0a\x06poison", Default::default()).await;
    until("both have moved", || {
        let consuming =
            service.connections().iter().filter(|connection| connection.name.starts_with("consume")).count();
        consuming == 3
    })
    .await;
    // Whether there is a further consuming connection that was never lost.
    let alone = || {
        service
            .connections()
            .iter()
            .any(|one| one.name != "consume-0" && one.name.starts_with("consume") && one.connected && one.connects == 1)
    };
    until("the innocent has a connection of its own", alone).await;
    for n in 0..20 {
        raw.put("innocent", format!("\x0a\x02{n:02}").as_bytes(), Default::default()).await;
        let seen = next(&mut innocent).await;
        assert_eq!(seen.text, format!("{n:02}"));
    }
    assert!(alone(), "the connection of the innocent consumer was lost");
    assert_eq!(raw.ready("innocent.dead").await, 0);
    let of = |queue: &str| service.consumers().into_iter().find(|(name, _)| name == queue).unwrap().1;
    assert_eq!(of("innocent").state, ConsumerState::Consuming);

    // Another client takes the poison out, while the restarting consumer does not have it. Then `q` goes on as well.
    assert_eq!(raw.take("q").await.body, b"\x0a\x06poison");
    raw.put("q", b"\x0a\x04good", Default::default()).await;
    assert_eq!(next(&mut record).await.text, "good");
    soon("it ends", service.shutdown()).await.unwrap();
}

#[actix::test]
async fn a_consumer_that_was_moved_to_a_connection_of_its_own_is_paused_and_removed_as_any_other() {
    let place = vhost();
    let url = place.url().replace(&format!(":{}/", place.port()), &format!(":{}/", poisoned(place.port())));
    let (factory, _record) = handlers(|_| Act::Ok);
    let (innocents, mut innocent) = handlers(|_| Act::Ok);
    let idle = std::time::Duration::from_millis(200);
    let app = App::new(broker(&url).pool(PoolConfig { idle_timeout: idle, ..PoolConfig::default() }))
        .topology(
            Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("innocent").dead_letter()),
        )
        .consume(Consume::queue("q").retry(retry(3)), factory)
        .consume(Consume::queue("innocent").retry(retry(3)), innocents);
    let service = started(app).await;
    let raw = Raw::connect(place.url()).await;
    raw.put("q", b"\x0a\x06poison", Default::default()).await;
    let consuming = || service.connections().iter().filter(|one| one.name.starts_with("consume")).count();
    until("both have moved", || consuming() == 3).await;
    soon("paused", service.pause_consumer("innocent")).await.unwrap();
    raw.put("innocent", GOOD, Default::default()).await;
    let of = |queue: &str| service.consumers().into_iter().find(|(name, _)| name == queue).unwrap().1;
    assert_eq!(of("innocent").state, ConsumerState::Paused);
    service.resume_consumer("innocent").unwrap();
    assert_eq!(next(&mut innocent).await.text, "good");
    soon("removed", service.remove_consumer("innocent")).await.unwrap();
    until("its connection is closed", || consuming() == 2).await;
    soon("removed", service.remove_consumer("q")).await.unwrap();
    until("that of the poisoned one, too", || consuming() == 1).await;
    until("the message is ready for somebody else", || place.depth("q").ready == 1).await;
    service.shutdown().await.unwrap();
}
