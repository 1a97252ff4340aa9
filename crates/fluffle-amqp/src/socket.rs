//! One socket to one endpoint: every await on it is bounded, and it can always be cut.

use std::{
    fmt,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_rs::{Tokio, traits::Reactor};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use tokio::time::timeout;

use crate::{
    broker::Broker,
    class::{Class, ClientError, Operation, classify, reply},
    endpoint::{Endpoint, Mechanism},
    frame::{DEFAULT_FRAME_MAX, FrameMax},
    sanitizer::stream::{self, Sanitized, SanitizedRuntime},
    tls::Tls,
};

/// How AMQP calls a good end.
const REPLY_SUCCESS: u16 = 200;

/// A second handle on the TCP socket, to shut it down when lapin does not come back.
///
/// lapin's connect and close can wait for ever on a silent peer (lapin #409, #437, #470) and its I/O thread would wait
/// with them: shutting the socket down ends both.
#[derive(Clone, Default)]
pub(crate) struct Cutter(Arc<Mutex<Option<TcpStream>>>);

impl Cutter {
    fn arm(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Shuts the socket down, both ways, at once. Nothing happens when it is already gone.
    pub(crate) fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The peer may have closed it first: there is nothing left to do then.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// An open connection and the means to cut it.
pub(crate) struct Socket {
    pub(crate) connection: Connection,
    pub(crate) cutter: Cutter,
}

impl Socket {
    /// The largest frame, as negotiated with the broker.
    pub(crate) fn frame_max(&self) -> FrameMax {
        FrameMax::new(self.connection.configuration().frame_max())
    }

    /// Says good-bye and waits up to `limit` for the broker's answer; else shuts the socket down, and says why. Its channels are
    /// to be [closed](close_channel) before.
    pub(crate) async fn close(&self, why: &str, limit: Duration) -> Result<(), String> {
        let closed = answered("connection.close", limit, self.connection.close(REPLY_SUCCESS, why.into())).await;
        if closed.is_err() {
            self.cutter.cut();
        }
        closed
    }
}

/// Closes `channel` and waits up to `limit` for the broker's answer: it has acted then upon all that was written there, the
/// last acks among it.
///
/// Not to be left to the drop of the last handle. lapin 4.12.3 closes the channel then at its leisure, and when
/// `connection.close` comes first, gives up on both: it drops the socket without a word, and the broker whatever it had not
/// read by then.
pub(crate) async fn close_channel(channel: &lapin::Channel, limit: Duration) -> Result<(), String> {
    answered("channel.close", limit, channel.close(REPLY_SUCCESS, "done".into())).await
}

async fn answered(what: &str, limit: Duration, answer: impl Future<Output = lapin::Result<()>>) -> Result<(), String> {
    match timeout(limit, answer).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{what} failed: {}", ClientError(error))),
        Err(_) => Err(format!("{what} was not answered within {limit:?}")),
    }
}

/// Why no endpoint could be connected to.
#[derive(Clone, Debug)]
pub(crate) struct ConnectError {
    attempts: Vec<Attempt>,
}

#[derive(Clone, Debug)]
struct Attempt {
    endpoint: String,
    what: String,
    class: Class,
}

impl ConnectError {
    /// Permanent only when every endpoint refused for good: one that is merely away may yet let us in.
    pub(crate) fn class(&self) -> Class {
        if self.attempts.iter().all(|attempt| attempt.class == Class::Permanent) {
            Class::Permanent
        } else {
            Class::Transient
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Attempt { endpoint, what, .. }) in self.attempts.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}cannot connect to {endpoint}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first endpoint that lets us in, trying each once, in order.
///
/// Cancellation: dropping the future cuts the socket it was working on.
pub(crate) async fn connect(broker: &Broker, name: &str) -> Result<(Socket, Endpoint), ConnectError> {
    let mut attempts = Vec::new();
    for endpoint in &broker.endpoints {
        match connect_to(broker, endpoint, name).await {
            Ok(socket) => return Ok((socket, endpoint.clone())),
            Err(attempt) => attempts.push(attempt),
        }
    }
    Err(ConnectError { attempts })
}

async fn connect_to(broker: &Broker, endpoint: &Endpoint, name: &str) -> Result<Socket, Attempt> {
    let limit = broker.connect_timeout_for(endpoint);
    let cutter = Cutter::default();
    let guard = CutOnDrop(Some(cutter.clone()));
    let tls = endpoint.tls.then(|| broker.tls.clone());
    let connecting = Connection::connector(
        uri(broker, endpoint),
        stream::runtime(),
        {
            let cutter = cutter.clone();
            async move |uri: AMQPUri, _: SanitizedRuntime| {
                let opened = open_stream(&uri, tls.as_ref(), &cutter, limit).await?;
                Ok(AsyncTcpStream::Plain(Sanitized::new(opened, uri.query.frame_max.unwrap_or_default())))
            }
        },
        ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "Fluffle".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into()),
    );
    let failed = |what: String, class| Attempt { endpoint: endpoint.to_string(), what, class };
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => {
            guard.disarm();
            Ok(Socket { connection, cutter })
        }
        Ok(Err(error)) => Err(failed(explain(&error, endpoint), classify(&error, Operation::Connect))),
        Err(_) => Err(failed(format!("no answer within {limit:?}"), Class::Transient)),
    }
}

/// TCP to the first address that answers, then TLS when asked for; both within `limit`.
async fn open_stream(
    uri: &AMQPUri,
    tls: Option<&Tls>,
    cutter: &Cutter,
    limit: Duration,
) -> std::io::Result<AsyncTcpStream<<Tokio as Reactor>::TcpStream>> {
    let host = uri.authority.host.as_str();
    let open = async {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, uri.authority.port)).await?.collect();
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in addresses {
            match Tokio::current().tcp_connect_addr(address).await {
                Ok(stream) => {
                    cutter.arm(TcpStream::from(stream.get_ref().as_fd().try_clone_to_owned()?));
                    let stream = AsyncTcpStream::Plain(stream);
                    return match tls {
                        Some(tls) => stream.into_rustls(&tls.connector()?, host).await,
                        None => Ok(stream),
                    };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    timeout(limit, open).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
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

/// What the broker or the network said, and what to do about it.
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
            lapin::ErrorKind::IOError(io) => io.to_string(),
            _ => error.to_string(),
        },
    }
}

/// Cuts the socket unless the connection was handed on.
struct CutOnDrop(Option<Cutter>);

impl CutOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(cutter) = self.0.take() {
            cutter.cut();
        }
    }
}
