//! One AMQP URI, taken apart: where to connect, as whom, to which virtual host.

use std::{fmt, time::Duration};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::{
    frame::{DEFAULT_FRAME_MAX, LEAST_FRAME_MAX, MOST_FRAME_MAX},
    secret::Secret,
};

/// How the client proves who it is (SASL mechanism, RabbitMQ "Authentication, Authorisation, Access Control").
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
/// `amqp[s]://user:password@host:port/vhost?heartbeat=10&connection_timeout=5000&auth_mechanism=external`; the
/// vhost is percent-encoded (`%2f` is `/`), parts left out take RabbitMQ's defaults: `guest`/`guest`, port 5672
/// (5671 for `amqps`), vhost `/`. See RabbitMQ's "URI Specification" and "URI Query Parameters".
///
/// The password shows in no `Debug`, `Display` or error.
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

/// Why a text is not an AMQP URI. It never repeats the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an AMQP URI: {what}. Expected amqp://user:password@host:port/vhost (amqps:// for TLS; write the vhost `/` as %2f)"
)]
pub struct UriError {
    what: String,
}

impl UriError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// The value is not repeated: it may hold a password.
    pub(crate) fn not_text() -> Self {
        Self::new("it is not UTF-8 text")
    }
}

const QUERY_KEYS: &str = "heartbeat, connection_timeout, auth_mechanism, frame_max, channel_max";

impl std::str::FromStr for Endpoint {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let url = Url::parse(text.trim()).map_err(|error| UriError::new(error.to_string()))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(UriError::new(format!("the scheme is `{other}`"))),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => decode(name, "host")?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(UriError::new("it names no host")),
        };
        let vhost = match url.path() {
            "" | "/" => "/".to_owned(),
            path => decode(path.strip_prefix('/').unwrap_or(path), "vhost")?,
        };
        if vhost.contains('/') && vhost != "/" && url.path().trim_start_matches('/').contains('/') {
            return Err(UriError::new("the vhost has more than one path segment (percent-encode a `/` inside it)"));
        }
        let mut endpoint = Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
            user: if url.username().is_empty() { "guest".to_owned() } else { decode(url.username(), "user name")? },
            password: Secret::new(match url.password() {
                Some(password) => decode(password, "password")?,
                None => "guest".to_owned(),
            }),
            vhost,
            mechanism: Mechanism::Plain,
            heartbeat: None,
            connect_timeout: None,
            frame_max: None,
            channel_max: None,
        };
        for (key, value) in url.query_pairs() {
            endpoint.set(&key, &value)?;
        }
        Ok(endpoint)
    }
}

impl Endpoint {
    fn set(&mut self, key: &str, value: &str) -> Result<(), UriError> {
        match key {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number::<u16>(key, value)?.into())),
            "connection_timeout" => self.connect_timeout = Some(Duration::from_millis(number(key, value)?)),
            "frame_max" => self.frame_max = frame_max(number(key, value)?)?,
            "channel_max" => self.channel_max = Some(number(key, value)?),
            "auth_mechanism" => {
                self.mechanism = match value.to_ascii_lowercase().as_str() {
                    "plain" => Mechanism::Plain,
                    "external" => Mechanism::External,
                    other => {
                        return Err(UriError::new(format!("auth_mechanism `{other}` is neither plain nor external")));
                    }
                }
            }
            other => return Err(UriError::new(format!("unknown parameter `{other}` (known: {QUERY_KEYS})"))),
        }
        Ok(())
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Virtual host, decoded.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// User name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the connection is wrapped in TLS (`amqps`).
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

fn decode(part: &str, name: &str) -> Result<String, UriError> {
    percent_decode_str(part)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| UriError::new(format!("the {name} is not UTF-8 after percent-decoding")))
}

/// 0 is no wish, as in `connection.tune`.
fn frame_max(bytes: u32) -> Result<Option<u32>, UriError> {
    match bytes {
        0 => Ok(None),
        LEAST_FRAME_MAX..=MOST_FRAME_MAX => Ok(Some(bytes)),
        _ => Err(UriError::new(format!(
            "frame_max = {bytes} is out of range: AMQP wants {LEAST_FRAME_MAX} bytes or more, and each connection has buffers of 64 \
             frames, so the most is {MOST_FRAME_MAX}; 0 or leaving it out asks for {DEFAULT_FRAME_MAX}"
        ))),
    }
}

fn number<N: std::str::FromStr>(key: &str, value: &str) -> Result<N, UriError> {
    value.parse().map_err(|_| UriError::new(format!("{key} = `{value}` is not a number in range")))
}

/// The URI without the password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let vhost = if self.vhost == "/" { "%2f" } else { &self.vhost };
        write!(f, "{scheme}://{}@{host}:{}/{vhost}", self.user, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart_and_defaults_are_rabbitmqs() {
        let plain: Endpoint = "amqp://localhost".parse().unwrap();
        assert_eq!((plain.host(), plain.port(), plain.user(), plain.vhost()), ("localhost", 5672, "guest", "/"));
        let full: Endpoint =
            "amqps://me:p%40ss@[::1]:7000/a%2fb?heartbeat=5&connection_timeout=1500&auth_mechanism=EXTERNAL"
                .parse()
                .unwrap();
        assert_eq!((full.host(), full.port(), full.vhost(), full.is_tls()), ("::1", 7000, "a/b", true));
        assert_eq!(full.password.reveal(), "p@ss");
        assert_eq!(full.heartbeat, Some(Duration::from_secs(5)));
        assert_eq!(full.mechanism, Mechanism::External);
        assert_eq!("amqp://h/%2f".parse::<Endpoint>().unwrap().vhost(), "/");
    }

    #[test]
    fn a_wrong_uri_says_what_is_wrong_and_keeps_the_password_to_itself() {
        for (text, hint) in [
            ("http://u:hunter2@h/", "scheme is `http`"),
            ("amqp://u:hunter2@h/?hartbeat=3", "unknown parameter `hartbeat`"),
            ("amqp://u:hunter2@h/?heartbeat=soon", "not a number"),
            ("amqp://u:hunter2@h/a/b", "more than one path segment"),
            ("amqp:///", "names no host"),
            ("localhost:5672", "AMQP URI"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_password_is_in_no_debug_and_no_display() {
        let endpoint: Endpoint = "amqp://u:hunter2@h/".parse().unwrap();
        assert!(!format!("{endpoint} {endpoint:?}").contains("hunter2"));
    }
}
