//! The broker's addresses, and the settings for staying connected. Nothing here does I/O.

use std::{env, fmt, time::Duration};

use fluffle_supervise::Backoff;

use crate::link::{
    endpoint::Endpoint,
    endpoint_order::EndpointOrder,
    pool_config::PoolConfig,
    tls::Tls,
    uri::{self, UriError},
};

/// A broker, or the nodes of one cluster, and the settings of the connections to it.
///
/// Building a `Broker` does no I/O. Every connection of the application is made from it.
///
/// | setting | default |
/// |---|---|
/// | [`heartbeat`](Broker::heartbeat) | 10 s (RabbitMQ recommends 5 to 20 s) |
/// | [`connect_timeout`](Broker::connect_timeout) | 10 s per endpoint, for TCP, TLS and AMQP handshake together |
/// | [`close_timeout`](Broker::close_timeout) | 2 s, then the socket is shut down |
/// | [`endpoint_order`](Broker::endpoint_order) | connections are spread over the endpoints |
/// | [`reconnect`](Broker::reconnect) | without limit, full jitter from 100 ms up to 10 s, reset after 1 s connected |
/// | [`pool`](Broker::pool) | one connection to publish and one to consume, more from 32 channels on |
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::Broker;
///
/// let broker = Broker::new("amqp://app:secret@rabbit-1/orders")?
///     .endpoint("amqp://app:secret@rabbit-2/orders")?
///     .name("invoices")
///     .heartbeat(Duration::from_secs(15));
/// # Ok::<(), fluffle_amqp::UriError>(())
/// ```
#[derive(Clone)]
pub struct Broker {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) endpoint_order: EndpointOrder,
    pub(crate) tls: Tls,
    pub(crate) name: String,
    pub(crate) heartbeat: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) reconnect: Backoff,
    pub(crate) pool: PoolConfig,
}

/// The environment variable that names the broker: one AMQP URI, or several separated by commas.
pub const AMQP_URL: &str = "AMQP_URL";

impl Broker {
    /// A broker at `uris`: one AMQP URI, or several separated by commas. [`EndpointOrder`] says which of them is tried
    /// first; see [`Endpoint`] for the parts of a URI.
    ///
    /// A comma separates two URIs only if a URI with its scheme begins after it. A comma inside a password need not be
    /// percent-encoded; a comma inside a vhost is written as `%2C`.
    ///
    /// # Errors
    /// If a URI is invalid, or one URI of the list is empty. The error says what is wrong, and never contains a
    /// password.
    pub fn new(uris: &str) -> Result<Self, UriError> {
        let endpoints = uri::list(uris)?;
        Ok(Self {
            endpoints,
            endpoint_order: EndpointOrder::default(),
            tls: Tls::new(),
            name: program_name(),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            reconnect: default_reconnect(),
            pool: PoolConfig::default(),
        })
    }

    /// The broker that the environment variable `AMQP_URL` names, or `amqp://guest:guest@localhost:5672/%2f`.
    ///
    /// # Errors
    /// If `AMQP_URL` is set but is not an AMQP URI.
    pub fn from_env() -> Result<Self, UriError> {
        match Self::from_env_if_set()? {
            Some(broker) => Ok(broker),
            None => Self::new("amqp://guest:guest@localhost:5672/%2f"),
        }
    }

    /// The broker that the environment variable `AMQP_URL` names; `None` if the variable is unset or empty.
    ///
    /// # Errors
    /// If `AMQP_URL` is set but is not an AMQP URI.
    pub fn from_env_if_set() -> Result<Option<Self>, UriError> {
        match env::var_os(AMQP_URL) {
            None => Ok(None),
            Some(uris) if uris.is_empty() => Ok(None),
            Some(uris) => Self::new(uris.to_str().ok_or_else(UriError::not_text)?).map(Some),
        }
    }

    /// Adds another endpoint. All endpoints should be nodes of one cluster. [`EndpointOrder`] says which one is tried
    /// first. If an endpoint does not answer, the next one is tried beside it after 250 ms, or after 1 s if it accepts
    /// TCP and then says nothing (RFC 8305, "Happy Eyeballs").
    ///
    /// # Errors
    /// If the URI is invalid.
    pub fn endpoint(mut self, uri: &str) -> Result<Self, UriError> {
        self.endpoints.push(uri.parse()?);
        Ok(self)
    }

    /// Sets which endpoint a connection tries first. Default: [`EndpointOrder::Spread`].
    #[must_use]
    pub fn endpoint_order(mut self, order: EndpointOrder) -> Self {
        self.endpoint_order = order;
        self
    }

    /// Sets the TLS settings for the `amqps` endpoints.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Sets the name that the broker shows for the connections (`<name>/publish-0`, `<name>/consume-0`). Default: the
    /// name of the program.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the heartbeat interval that is offered to the broker; the lower of both offers holds. Fractions of a second
    /// are cut off; the least is 1 s and the most 65,535 s. Default: 10 s.
    ///
    /// A peer that is silent for two intervals counts as dead. [`Duration::ZERO`] switches heartbeats off in both
    /// directions, even if the broker proposes an interval. A peer that vanishes is then noticed only by the system's
    /// TCP and by confirms that do not come ([`Route::confirm_timeout`](crate::Route::confirm_timeout)). A `heartbeat`
    /// in the URI takes precedence.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Sets the limit for TCP, TLS and the AMQP handshake with one endpoint together, clamped to 1 ms to 1 hour.
    /// Default: 10 s. A `connection_timeout` in the URI takes precedence.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        self
    }

    /// Sets how long `connection.close` may take before the socket is shut down, at most 1 hour. Default: 2 s.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout.min(Duration::from_secs(3600));
        self
    }

    /// Sets the waits between attempts to connect. The number of attempts is not limited, because the loss of the
    /// broker is not the application's fault. After a permanent error, such as refused credentials or a missing vhost,
    /// there is no further attempt.
    ///
    /// With several endpoints, the first attempt after a lost connection is made at once, because the other nodes are
    /// probably well.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.reconnect = backoff;
        self
    }

    /// Sets the bounds for connections and channels.
    #[must_use]
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.pool = pool;
        self
    }

    /// The endpoints, in the order in which they are listed.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The heartbeat interval to offer at this endpoint, in seconds; 0 switches heartbeats off.
    pub(crate) fn heartbeat_seconds(&self, endpoint: &Endpoint) -> u16 {
        let interval = endpoint.heartbeat.unwrap_or(self.heartbeat);
        if interval.is_zero() {
            return 0;
        }
        u16::try_from(interval.as_secs().max(1)).unwrap_or(u16::MAX)
    }

    pub(crate) fn connect_timeout_for(&self, endpoint: &Endpoint) -> Duration {
        endpoint.connect_timeout.unwrap_or(self.connect_timeout)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("endpoints", &self.endpoints)
            .field("name", &self.name)
            .field("heartbeat", &self.heartbeat)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

fn default_reconnect() -> Backoff {
    Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10))
        .map(|backoff| backoff.reset_after(Duration::from_secs(1)))
        .unwrap_or_default()
}

fn program_name() -> String {
    env::current_exe()
        .ok()
        .and_then(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "fluffle".to_owned())
}
