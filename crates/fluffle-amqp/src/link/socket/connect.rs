//! Connects to one of a broker's endpoints.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_rs::{Tokio, traits::Reactor};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use tokio::time::{Instant, timeout};

use crate::{
    base::frame::DEFAULT_FRAME_MAX,
    link::{
        broker::Broker,
        class::{Class, Operation, classify, reply},
        endpoint::{Endpoint, Mechanism},
        endpoint_order::Turn,
        sanitizer::{
            Peer, Sanitizer,
            stream::{self, Sanitized, SanitizedRuntime, TokioStream},
        },
        socket::{
            candidates::{Candidate, Candidates, Resolving, resolve},
            open::{CutOnDrop, Cutter, Socket},
            race::{ATTEMPT_DELAY, Progress, race},
        },
        tls::{self, Tls},
    },
};

/// The failures of all attempts to connect.
#[derive(Clone, Debug)]
pub(crate) struct ConnectError {
    attempts: Vec<Attempt>,
}

/// One failed attempt: on an address, or on a name that has none.
#[derive(Clone, Debug)]
struct Attempt {
    /// The index of the endpoint in the broker's list.
    number: usize,
    endpoint: String,
    address: Option<SocketAddr>,
    what: String,
    class: Class,
    /// Whether it had connected by TCP.
    reached: bool,
    /// Whether TLS failed permanently: a certificate was refused, or the TLS settings cannot be used.
    tls: bool,
}

impl ConnectError {
    /// Permanent only if every endpoint refused permanently, because an endpoint that is merely unreachable may accept
    /// later. Of an endpoint's addresses only those count that connected by TCP: often nothing listens at some
    /// addresses of a name.
    ///
    /// If `connected_before`, a refused certificate is not permanent: a certificate was accepted before, so a person is
    /// probably replacing it.
    pub(crate) fn class(&self, connected_before: bool) -> Class {
        let refused = |attempt: &Attempt| attempt.class == Class::Permanent && !(attempt.tls && connected_before);
        let permanent = self.endpoints().values().all(|attempts| {
            let mut reached = attempts.iter().filter(|attempt| attempt.reached).peekable();
            reached.peek().is_some() && reached.all(|attempt| refused(attempt))
        });
        if permanent { Class::Permanent } else { Class::Transient }
    }

    /// Whether TLS failed permanently in any attempt: a certificate was refused, or the TLS settings cannot be used.
    pub(crate) fn is_about_tls(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.tls)
    }

    /// The attempts by the index of their endpoint in the broker's list.
    fn endpoints(&self) -> BTreeMap<usize, Vec<&Attempt>> {
        let mut endpoints = BTreeMap::<_, Vec<_>>::new();
        for attempt in &self.attempts {
            endpoints.entry(attempt.number).or_default().push(attempt);
        }
        endpoints
    }
}

impl fmt::Display for ConnectError {
    /// One part for each endpoint. Addresses are named only if they failed with different errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attempts) in self.endpoints().values().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let Some(first) = attempts.first() else { continue };
            write!(f, "{separator}cannot connect to {}: ", first.endpoint)?;
            if attempts.iter().all(|attempt| attempt.what == first.what) {
                write!(f, "{}", first.what)?;
                continue;
            }
            for (i, Attempt { address, what, .. }) in attempts.iter().enumerate() {
                let separator = if i == 0 { "" } else { ", " };
                match address {
                    Some(address) => write!(f, "{separator}{what} (at {address})")?,
                    None => write!(f, "{separator}{what}")?,
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first address that accepts, in the order that `turn` gives; [`race`] says when the next address is
/// tried. `turn` hears which addresses failed, and which one accepted.
///
/// Each address has its endpoint's limit for TCP, TLS and the AMQP handshake together.
///
/// Cancellation: dropping the future cuts the sockets of its attempts.
pub(crate) async fn connect(broker: &Broker, name: &str, turn: &Turn) -> Result<(Socket, Endpoint), ConnectError> {
    let order = turn.endpoints(broker.endpoint_order, broker.endpoints.len());
    let names = order.into_iter().filter_map(|number| {
        let endpoint = broker.endpoints.get(number)?;
        Some((number, resolve(endpoint, broker.connect_timeout_for(endpoint))))
    });
    connect_resolved(broker, name, turn, names).await
}

/// As [`connect`], with the resolution of each endpoint's name as an argument.
async fn connect_resolved(
    broker: &Broker,
    name: &str,
    turn: &Turn,
    names: impl IntoIterator<Item = (usize, Resolving)>,
) -> Result<(Socket, Endpoint), ConnectError> {
    let attempt = |Candidate { endpoint: number, address }: Candidate, progress| async move {
        let endpoint =
            broker.endpoints.get(number).ok_or_else(|| unresolved(number, "?".to_owned(), "no such endpoint"))?;
        match address {
            Ok(address) => {
                let trial = Trial::new(turn, address);
                let connected = connect_to(broker, endpoint, address, name, &progress).await;
                trial.ended(connected.is_ok());
                connected.map(|socket| (socket, endpoint.clone())).map_err(|failed| Attempt { number, ..failed })
            }
            Err(why) => {
                turn.unresolved(number);
                Err(unresolved(number, endpoint.to_string(), why))
            }
        }
    };
    let arrange = |number, addresses| turn.addresses(broker.endpoint_order, number, addresses);
    race(Candidates::new(names, arrange), attempt).await.map_err(|attempts| ConnectError { attempts })
}

/// An attempt on an address that is going on. Dropped because a later attempt has won, it counts as failed.
struct Trial<'a> {
    turn: &'a Turn,
    address: SocketAddr,
    begun: Instant,
    ended: bool,
}

impl<'a> Trial<'a> {
    fn new(turn: &'a Turn, address: SocketAddr) -> Self {
        Self { turn, address, begun: Instant::now(), ended: false }
    }

    fn ended(mut self, well: bool) {
        self.ended = true;
        if well { self.turn.works(self.address) } else { self.turn.failed(self.address) }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // One that began a moment ago is not to blame that another one has won.
        if !self.ended && self.begun.elapsed() >= ATTEMPT_DELAY {
            self.turn.failed(self.address);
        }
    }
}

fn unresolved(number: usize, endpoint: String, why: impl fmt::Display) -> Attempt {
    let (class, what) = (Class::Transient, why.to_string());
    Attempt { number, endpoint, address: None, what, class, reached: false, tls: false }
}

/// TCP, TLS if the endpoint uses it, and the AMQP handshake with one address, within the endpoint's limit.
async fn connect_to(
    broker: &Broker,
    endpoint: &Endpoint,
    address: SocketAddr,
    name: &str,
    progress: &Progress,
) -> Result<Socket, Attempt> {
    let limit = broker.connect_timeout_for(endpoint);
    let cutter = Cutter::default();
    let guard = CutOnDrop::new(cutter.clone());
    let reached = AtomicBool::new(false);
    let peer = Arc::default();
    let connecting = async {
        let stream = open_tcp(address, &cutter).await?;
        reached.store(true, Ordering::Relaxed);
        progress.has_tcp();
        let stream = secure(stream, endpoint, &broker.tls).await?;
        handshake(stream, uri(broker, endpoint), name, &peer).await
    };
    let failed = |what: String, class, tls| Attempt {
        number: 0,
        endpoint: endpoint.place(),
        address: Some(address),
        what,
        class,
        reached: reached.load(Ordering::Relaxed),
        tls,
    };
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => {
            guard.disarm();
            let peer = peer.get().cloned().unwrap_or_default();
            Ok(Socket { connection, cutter, peer, address })
        }
        Ok(Err(error)) => {
            let about_tls = matches!(error.kind(), ErrorKind::IOError(io) if tls::is_refused(io));
            Err(failed(explain(&error, endpoint), classify(&error, Operation::Connect), about_tls))
        }
        Err(_) => Err(failed(format!("no answer within {limit:?}"), Class::Transient, false)),
    }
}

async fn open_tcp(address: SocketAddr, cutter: &Cutter) -> io::Result<TokioStream> {
    let stream = Tokio::current().tcp_connect_addr(address).await?;
    cutter.arm(twin(&stream)?);
    Ok(stream)
}

/// A second handle of the same socket.
#[cfg(unix)]
fn twin(stream: &TokioStream) -> io::Result<TcpStream> {
    Ok(std::os::fd::AsFd::as_fd(stream.get_ref()).try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn twin(stream: &TokioStream) -> io::Result<TcpStream> {
    Ok(std::os::windows::io::AsSocket::as_socket(stream.get_ref()).try_clone_to_owned()?.into())
}

/// Adds TLS to the stream if the endpoint uses it.
async fn secure(stream: TokioStream, endpoint: &Endpoint, tls: &Tls) -> io::Result<AsyncTcpStream<TokioStream>> {
    let stream = AsyncTcpStream::Plain(stream);
    if endpoint.tls { stream.into_rustls(&tls.connector()?, &endpoint.host).await } else { Ok(stream) }
}

/// The AMQP handshake on an open stream. lapin reads the stream through the sanitizer.
async fn handshake(
    stream: AsyncTcpStream<TokioStream>,
    uri: AMQPUri,
    name: &str,
    peer: &Arc<OnceLock<Peer>>,
) -> lapin::Result<Connection> {
    let sanitizer = Sanitizer::new(uri.query.frame_max.unwrap_or_default()).tells(peer);
    let no_heartbeats = uri.query.heartbeat == Some(0);
    let sanitizer = if no_heartbeats { sanitizer.without_heartbeats() } else { sanitizer };
    let stream = Mutex::new(Some(Sanitized::new(stream, sanitizer)));
    // lapin asks for the stream once, because its own retries and its recovery are off.
    let take = async move |_: AMQPUri, _: SanitizedRuntime| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.map(AsyncTcpStream::Plain).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
    };
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "Fluffle".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    Connection::connector(uri, stream::runtime(), take, properties).await
}

fn uri(broker: &Broker, endpoint: &Endpoint) -> AMQPUri {
    AMQPUri {
        scheme: if endpoint.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: endpoint.user.clone(), password: endpoint.password.reveal().to_owned() },
            host: endpoint.host.clone(),
            port: endpoint.port,
        },
        vhost: endpoint.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(endpoint.frame_max.unwrap_or(DEFAULT_FRAME_MAX)),
            channel_max: endpoint.channel_max,
            heartbeat: Some(broker.heartbeat_seconds(endpoint)),
            connection_timeout: None,
            auth_mechanism: Some(match endpoint.mechanism {
                Mechanism::Plain => SASLMechanism::Plain,
                Mechanism::External => SASLMechanism::External,
            }),
        },
    }
}

/// The broker's or the system's text, and what to do.
fn explain(error: &lapin::Error, endpoint: &Endpoint) -> String {
    match reply(error) {
        Some((403, text)) => format!(
            "{text} — check user `{}` and its password, and that it may access vhost `{}` \
             (user `guest` may connect from the broker's own host only)",
            endpoint.user, endpoint.vhost
        ),
        Some((530, text)) if text.contains("not found") => format!(
            "{text} — create vhost `{0}` with `rabbitmqctl add_vhost {0}`, or correct the path of the URI",
            endpoint.vhost
        ),
        Some((_, text)) => text,
        None => match error.kind() {
            ErrorKind::IOError(io) if tls::is_no_tls(io) => format!(
                "{io} — the peer does not speak TLS: it may be a plain port of the broker (amqp://), or a proxy \
                 that answers in the broker's place"
            ),
            ErrorKind::IOError(io) => io.to_string(),
            _ => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
