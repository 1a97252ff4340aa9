use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    time::{Duration, Instant},
};

use fluffle_harness::{RabbitMq, Vhost};
use tokio::net::TcpSocket;

use crate::link::{endpoint_order::EndpointOrder, socket::connect::*};

/// The limit for each address. No test may take this long.
const LIMIT: Duration = Duration::from_secs(60);
const LONG_BEFORE: Duration = Duration::from_secs(20);

fn vhost() -> (Vhost<'static>, SocketAddr) {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, vhost.broker().port()));
    (vhost, address)
}

fn broker(vhost: &Vhost<'_>) -> Broker {
    Broker::new(&vhost.url().replace("127.0.0.1", "a-name.invalid").replace("localhost", "a-name.invalid"))
        .unwrap()
        .connect_timeout(LIMIT)
}

fn name(addresses: impl Into<Vec<SocketAddr>>) -> Resolving {
    let addresses = addresses.into();
    Box::pin(async { Ok(addresses) })
}

/// Connects in the order in which the names are given, and so their addresses.
async fn connected<const N: usize>(broker: &Broker, names: [Resolving; N]) -> Result<(Socket, Endpoint), ConnectError> {
    let broker = broker.clone().endpoint_order(EndpointOrder::Listed);
    connect_resolved(&broker, "test", &Turn::alone(), names.into_iter().enumerate()).await
}

/// Accepts TCP and passes each connection to `then`, for as long as the test's process lives.
fn peer(host: u8, then: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(then));
    address
}

/// Accepts TCP and is then silent.
fn mute(host: u8) -> SocketAddr {
    peer(host, std::mem::forget)
}

fn refusing() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn answering(answer: &'static str) -> SocketAddr {
    peer(1, move |mut stream| {
        let mut hello = [0; 8];
        // The client's protocol header. The client may have closed the connection by then.
        let _ = stream.read_exact(&mut hello).and_then(|()| stream.write_all(answer.as_bytes()));
    })
}

/// An address that does not answer a TCP connect: the listener accepts nothing, and its backlog is full.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::net::TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            let connecting = tokio::net::TcpStream::connect(address);
            match timeout(Duration::from_millis(500), connecting).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => return Self { address, _listener: listener, _waiting: waiting },
            }
        }
    }
}

#[tokio::test]
async fn of_a_name_with_several_addresses_the_first_good_one_is_taken_whatever_those_before_it_do() {
    let (vhost, good) = vhost();
    let black_hole = BlackHole::new().await;
    for (what, bad) in [
        ("no answer at all", black_hole.address),
        ("accepts and says nothing", mute(2)),
        ("accepts and closes", peer(3, drop)),
        ("refuses", refusing()),
        ("is no broker", answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")),
    ] {
        let begun = Instant::now();
        let connected = connected(&broker(&vhost), [name([bad, good])]).await;
        let (socket, _) = connected.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(begun.elapsed() < LONG_BEFORE, "{what}: {:?}", begun.elapsed());
        socket.close("done", LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_does_not_use_up_the_time_of_the_next() {
    let (vhost, good) = vhost();
    let broker = broker(&vhost).endpoint(vhost.url()).unwrap();
    let black_hole = BlackHole::new().await;
    let begun = Instant::now();
    let names = [name([black_hole.address, mute(2), mute(3)]), name([good])];
    let (socket, endpoint) = connected(&broker, names).await.unwrap();
    assert_eq!(endpoint, broker.endpoints[1]);
    assert!(begun.elapsed() < LONG_BEFORE, "{:?}", begun.elapsed());
    socket.close("done", LIMIT).await.unwrap();
}

#[tokio::test]
async fn attempts_that_did_not_win_leave_no_connection_behind() {
    let (vhost, good) = vhost();
    // Accepts TCP and does not answer, so that the second address wins.
    let port = vhost.broker().port();
    let (tell, ended) = std::sync::mpsc::channel();
    let slow = peer(2, move |mut inward| {
        let mut bytes = Vec::new();
        // Reads until the client closes the connection.
        let _ = inward.read_to_end(&mut bytes);
        tell.send((port, bytes.len())).unwrap();
    });
    let (socket, _) = connected(&broker(&vhost), [name([slow, good])]).await.unwrap();
    let (_, said) =
        tokio::task::spawn_blocking(move || ended.recv_timeout(LONG_BEFORE)).await.unwrap().expect("it is cut");
    assert_eq!(said, 8, "the protocol header");
    socket.close("done", LIMIT).await.unwrap();
}

#[tokio::test]
async fn when_no_address_is_good_each_is_named_with_what_it_did() {
    let (vhost, good) = vhost();
    let (refusing, closing) = (refusing(), peer(3, drop));
    let nobody = Broker::new(&vhost.url().replace("guest:guest@", "nobody:hunter2@")).unwrap();
    let error = connected(&nobody, [name([refusing, closing, good])]).await.map(|_| ()).unwrap_err();
    let text = error.to_string();
    for part in ["Connection refused", "ACCESS_REFUSED", &refusing.to_string(), &closing.to_string(), &good.to_string()]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(error.class(false), Class::Transient, "one of those that answered may yet let us in");

    let error = connected(&nobody, [name([refusing, good])]).await.map(|_| ()).unwrap_err();
    assert_eq!(error.class(false), Class::Permanent, "nobody listens at the first: {error}");

    let error = connected(&nobody, [name([])]).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().ends_with("the name has no address"), "{error}");
    assert_eq!(error.class(false), Class::Transient);
}

#[test]
fn a_refused_certificate_is_no_reason_to_give_up_once_it_was_good() {
    let attempt = |number, class, reached, tls| Attempt {
        number,
        endpoint: "amqps://guest@h:5671/%2f".to_owned(),
        address: None,
        what: "no".to_owned(),
        class,
        reached,
        tls,
    };
    let certificate = |number| attempt(number, Class::Permanent, true, true);
    let password = |number| attempt(number, Class::Permanent, true, false);
    let away = |number| attempt(number, Class::Transient, false, false);
    let busy = |number| attempt(number, Class::Contention, true, false);
    use Class::{Permanent, Transient};
    for (attempts, first_time, later) in [
        (vec![certificate(0)], Permanent, Transient),
        (vec![password(0)], Permanent, Permanent),
        (vec![certificate(0), password(1)], Permanent, Transient),
        (vec![certificate(0), certificate(0), away(0)], Permanent, Transient),
        (vec![password(0), away(0)], Permanent, Permanent),
        (vec![password(0), away(1)], Transient, Transient),
        (vec![password(0), busy(0)], Transient, Transient),
        (vec![away(0)], Transient, Transient),
    ] {
        let error = ConnectError { attempts };
        assert_eq!((error.class(false), error.class(true)), (first_time, later), "{error:?}");
    }
}
