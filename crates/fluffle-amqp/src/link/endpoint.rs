//! One broker address with its credentials, virtual host and settings.

use std::{fmt, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::base::secret::Secret;

/// How the client authenticates (SASL mechanism; RabbitMQ, "Authentication, Authorisation, Access Control").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// User name and password (the default).
    #[default]
    Plain,
    /// The client certificate of the TLS connection; needs RabbitMQ's plugin `rabbitmq_auth_mechanism_ssl`.
    External,
}

/// One broker address with its credentials, parsed from an AMQP URI.
///
/// A URI has the form
/// `amqp[s]://user:password@host:port/vhost?heartbeat=10&connection_timeout=5000&auth_mechanism=external`. The vhost is
/// percent-encoded (`%2f` is `/`). Parts that are left out have RabbitMQ's defaults: `guest`/`guest`, port 5672 (5671
/// for `amqps`), vhost `/`. See RabbitMQ's "URI Specification" and "URI Query Parameters". A character with a meaning
/// in a URI must be percent-encoded where it does not have that meaning: `@`, `:`, `/`, `?`, `#` and `%` in a user name
/// or password (`%40` is `@`), and `/`, `?`, `#`, `%`, `@` and `,` in a vhost. The parameters are:
///
/// - `heartbeat`: seconds, up to 65,535; 0 switches heartbeats off, even if the broker proposes them. If left out:
///   [`Broker::heartbeat`](crate::Broker::heartbeat).
/// - `connection_timeout`: milliseconds, 1 to 3,600,000 (an hour). If left out:
///   [`Broker::connect_timeout`](crate::Broker::connect_timeout).
/// - `frame_max`: bytes, 4,096 to 1,048,576; the broker may demand less. A connection has buffers of 64 frames. If left
///   out or 0: 131,072.
/// - `channel_max`: channels on one connection, 2 to 65,535; the broker may demand less. One of the channels is
///   reserved for declaring the topology. If left out or 0: as many as the broker allows.
/// - `auth_mechanism`: `plain` or `external`. If left out: `plain`.
///
/// No `Debug`, `Display` or error contains the password.
///
/// ```
/// use fluffle_amqp::Endpoint;
///
/// let endpoint: Endpoint = "amqp://app:hunter2@rabbit.local/orders".parse()?;
/// assert_eq!(endpoint.to_string(), "amqp://app@rabbit.local:5672/orders");
/// assert!(!format!("{endpoint:?}").contains("hunter2"));
/// # Ok::<(), fluffle_amqp::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) vhost: String,
    pub(crate) mechanism: Mechanism,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) frame_max: Option<u32>,
    pub(crate) channel_max: Option<u16>,
}

impl Endpoint {
    /// The host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The virtual host, decoded.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The user name, decoded.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the connection uses TLS (`amqps`).
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "amqps" } else { "amqp" }
    }

    /// Host and port.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    fn path(&self) -> String {
        if self.vhost == "/" { "%2f".to_owned() } else { encoded(&self.vhost).to_string() }
    }

    /// The URI without user, password and settings: `amqp://host:5672/vhost`.
    pub(crate) fn place(&self) -> String {
        format!("{}://{}/{}", self.scheme(), self.authority(), self.path())
    }
}

/// Displays the URI without the password. The text parses to the same endpoint, but with the default password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}@{}/{}", self.scheme(), encoded(&self.user), self.authority(), self.path())?;
        let milliseconds = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let parameters = [
            ("heartbeat", self.heartbeat.map(|interval| interval.as_secs())),
            ("connection_timeout", self.connect_timeout.map(milliseconds)),
            ("frame_max", self.frame_max.map(u64::from)),
            ("channel_max", self.channel_max.map(u64::from)),
        ];
        let mut separator = '?';
        for (key, value) in parameters {
            if let Some(value) = value {
                write!(f, "{separator}{key}={value}")?;
                separator = '&';
            }
        }
        match self.mechanism {
            Mechanism::Plain => Ok(()),
            Mechanism::External => write!(f, "{separator}auth_mechanism=external"),
        }
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encoded(part: &str) -> PercentEncode<'_> {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(part, ENCODED)
}
