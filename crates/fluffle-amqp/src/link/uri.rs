//! Parses AMQP URIs. An ambiguous URI is refused, and the error says what to write instead; no error contains a
//! password.

use std::{net::Ipv6Addr, time::Duration};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::{
    base::{
        frame::{DEFAULT_FRAME_MAX, LEAST_FRAME_MAX, MOST_FRAME_MAX},
        secret::Secret,
    },
    link::endpoint::{Endpoint, Mechanism},
};

const QUERY_KEYS: &str = "heartbeat, connection_timeout, auth_mechanism, frame_max, channel_max";

/// The longest `connection_timeout`, in milliseconds: an hour.
const LONGEST_TIMEOUT: u64 = 3_600_000;

/// Why a text is not an AMQP URI. The error never contains the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an AMQP URI: {what}. Expected amqp://user:password@host:port/vhost (amqps:// for TLS; write the vhost `/` as \
     %2f)"
)]
pub struct UriError {
    what: String,
}

impl UriError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// The error does not contain the value, which may hold a password.
    pub(crate) fn not_text() -> Self {
        Self::new("it is not UTF-8 text")
    }
}

/// The endpoints of a text that holds one URI, or several separated by commas.
///
/// A comma separates two URIs only if a URI begins after it, or nothing follows: a comma inside a password belongs to
/// the password.
pub(crate) fn list(text: &str) -> Result<Vec<Endpoint>, UriError> {
    let mut pieces: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match pieces.last_mut() {
            Some(last) if !begins_uri(piece) && !piece.trim().is_empty() => {
                last.push(',');
                last.push_str(piece);
            }
            _ => pieces.push(piece.to_owned()),
        }
    }
    let several = pieces.len() > 1;
    let one = |(index, piece): (usize, &String)| match piece.trim().is_empty() {
        true if several => Err(UriError::new(format!(
            "URI number {} of the list is empty: leave out the comma, or set the variable that the URI comes from",
            index + 1
        ))),
        _ => piece.parse(),
    };
    pieces.iter().enumerate().map(one).collect()
}

/// Whether the text begins with a scheme: a letter, then letters, digits, `+`, `-` and `.` before `://` (RFC 3986,
/// 3.1).
fn begins_uri(piece: &str) -> bool {
    let Some((scheme, _)) = piece.trim_start().split_once("://") else { return false };
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(rest)
}

impl std::str::FromStr for Endpoint {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        let UriParts { authority, path, query } = UriParts::of(text)?;
        let url = Url::parse(text).map_err(|error| wrong(error, authority))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(UriError::new(format!("the scheme is `{other}`"))),
        };
        let (user, password) = credentials(authority)?;
        let mut endpoint = Self {
            tls,
            host: host(&url)?,
            port: match url.port() {
                Some(0) => {
                    return Err(UriError::new("port 0 is no port to connect to: leave it out, or write 1 to 65535"));
                }
                Some(port) => port,
                None if tls => 5671,
                None => 5672,
            },
            user,
            password: Secret::new(password),
            vhost: vhost(path)?,
            mechanism: Mechanism::Plain,
            heartbeat: None,
            connect_timeout: None,
            frame_max: None,
            channel_max: None,
        };
        if query.contains(';') {
            return Err(UriError::new("`;` does not separate parameters: `&` does"));
        }
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in url.query_pairs() {
            endpoint.set(&key, &value)?;
            if seen.iter().any(|before| *before == key) {
                return Err(UriError::new(format!("the parameter `{key}` is there twice: keep one")));
            }
            seen.push(key.into_owned());
        }
        Ok(endpoint)
    }
}

/// The parts of a URI as they are written, still percent-encoded.
struct UriParts<'a> {
    authority: &'a str,
    /// With its leading `/`, if there is one.
    path: &'a str,
    query: &'a str,
}

impl<'a> UriParts<'a> {
    /// Refuses what the URL parser accepts silently or misinterprets.
    fn of(text: &'a str) -> Result<Self, UriError> {
        if text.is_empty() {
            return Err(UriError::new("it is empty"));
        }
        if !begins_uri(text) {
            return Err(UriError::new("it does not begin with amqp:// or amqps://"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(UriError::new(
                "it holds a space, a line break or another control character (a space is written as %20)",
            ));
        }
        if text.contains('#') {
            return Err(UriError::new("it holds a `#` (inside a password or vhost it is written as %23)"));
        }
        if text.contains('\\') {
            return Err(UriError::new("it holds a `\\` (inside a password or vhost it is written as %5C)"));
        }
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        if rest.contains("://") {
            return Err(UriError::new(
                "it holds `://` twice: URIs of a list are separated by `,`, each written out with its scheme \
                 (inside a password or vhost a `/` is written as %2F)",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        for (part, name) in [(path, "vhost"), (query, "query")] {
            if part.contains('@') {
                return Err(UriError::new(format!(
                    "there is an `@` in its {name}: inside a password `/` is written as %2F and `?` as %3F, inside a \
                     vhost `@` as %40"
                )));
            }
            if part.contains(',') {
                return Err(UriError::new(format!(
                    "there is a `,` in its {name}: URIs of a list are separated by `,`, each written out with its \
                     scheme; inside a vhost it is written as %2C"
                )));
            }
        }
        Ok(Self { authority, path, query })
    }
}

/// An error of the URL parser, with what to do if that is clear.
fn wrong(error: url::ParseError, authority: &str) -> UriError {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    UriError::new(match error {
        url::ParseError::InvalidPort => {
            "its port is not a number from 1 to 65535 (inside a password `/` is written as %2F, `?` as %3F; an IPv6 \
             address is put in brackets)"
                .to_owned()
        }
        url::ParseError::InvalidIpv6Address if host.contains('%') => {
            "its IPv6 address has a zone, which a URI cannot carry: name the host in /etc/hosts, and write that name"
                .to_owned()
        }
        url::ParseError::EmptyHost => "it names no host".to_owned(),
        other => other.to_string(),
    })
}

/// User name and password, decoded. If one is missing, it has RabbitMQ's default. `user:@` is an empty password.
fn credentials(authority: &str) -> Result<(String, String), UriError> {
    let guest = || "guest".to_owned();
    let Some((userinfo, _)) = authority.rsplit_once('@') else { return Ok((guest(), guest())) };
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    if user.is_empty() {
        return Err(UriError::new(
            "the user name before the `@` is empty: write it, or leave out everything before the host",
        ));
    }
    let password = password.map_or_else(|| Ok(guest()), |password| decode(password, "password"))?;
    Ok((decode(user, "user name")?, password))
}

/// The host in lower case; an international name in the form that DNS uses (`xn--…`).
fn host(url: &Url) -> Result<String, UriError> {
    let name = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decode(name, "host")?,
        Some(Host::Ipv4(address)) => return Ok(address.to_string()),
        Some(Host::Ipv6(address)) => return Ok(address.to_string()),
        Some(Host::Domain(_)) | None => return Err(UriError::new("it names no host")),
    };
    if name.contains(',') {
        return Err(UriError::new(
            "there is a `,` in its host: URIs of a list are separated by `,`, each written out with its scheme",
        ));
    }
    if name.parse::<Ipv6Addr>().is_ok() {
        return Err(UriError::new("an IPv6 address is put in brackets: [::1]"));
    }
    match Host::parse(&name) {
        Ok(Host::Ipv6(address)) => Ok(address.to_string()),
        Ok(host) => Ok(host.to_string()),
        Err(error) => Err(UriError::new(format!("its host is no name or address: {error}"))),
    }
}

/// The vhost; it is `/` if the path is missing or empty.
fn vhost(path: &str) -> Result<String, UriError> {
    let Some(name) = path.strip_prefix('/').filter(|name| !name.is_empty()) else { return Ok("/".to_owned()) };
    if name.contains('/') {
        return Err(UriError::new(
            "the vhost has more than one path segment (inside a vhost a `/` is written as %2f, and the vhost `/` is \
             `/%2f`)",
        ));
    }
    let vhost = decode(name, "vhost")?;
    if vhost.len() > 255 {
        return Err(UriError::new("the vhost is longer than the 255 bytes that AMQP allows"));
    }
    Ok(vhost)
}

/// Percent-decodes a part. A zero byte is refused, because AMQP's short strings and SASL's PLAIN cannot carry it.
fn decode(part: &str, name: &str) -> Result<String, UriError> {
    let digits = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if part.split('%').skip(1).any(|rest| !digits(rest)) {
        return Err(UriError::new(format!(
            "a `%` in the {name} is not followed by two hex digits: a `%` is written as %25"
        )));
    }
    let text = percent_decode_str(part).decode_utf8();
    let text = text.map_err(|_| UriError::new(format!("the {name} is not UTF-8 after percent-decoding")))?;
    if text.contains('\0') {
        return Err(UriError::new(format!("the {name} holds a zero byte (%00), which AMQP cannot carry")));
    }
    Ok(text.into_owned())
}

impl Endpoint {
    fn set(&mut self, key: &str, value: &str) -> Result<(), UriError> {
        match key {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number::<u16>(key, value)?.into())),
            "connection_timeout" => self.connect_timeout = Some(connect_timeout(number(key, value)?)?),
            "frame_max" => self.frame_max = frame_max(number(key, value)?)?,
            "channel_max" => self.channel_max = channel_max(number(key, value)?)?,
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
}

/// Refuses 0: without a limit an attempt to connect to a silent host would never end, and the next endpoint would not
/// be tried.
fn connect_timeout(milliseconds: u64) -> Result<Duration, UriError> {
    match milliseconds {
        1..=LONGEST_TIMEOUT => Ok(Duration::from_millis(milliseconds)),
        0 => Err(UriError::new(
            "connection_timeout = 0 is no limit, and an attempt to connect needs one: write milliseconds, or leave it \
             out for 10 s (Broker::connect_timeout)",
        )),
        _ => Err(UriError::new(format!(
            "connection_timeout = {milliseconds} is more than an hour ({LONGEST_TIMEOUT} milliseconds)"
        ))),
    }
}

/// 0 asks for nothing, as in `connection.tune`.
fn frame_max(bytes: u32) -> Result<Option<u32>, UriError> {
    match bytes {
        0 => Ok(None),
        LEAST_FRAME_MAX..=MOST_FRAME_MAX => Ok(Some(bytes)),
        _ => Err(UriError::new(format!(
            "frame_max = {bytes} is out of range: AMQP wants {LEAST_FRAME_MAX} bytes or more, and each connection has \
             buffers of 64 frames, so the most is {MOST_FRAME_MAX}; 0 or leaving it out asks for {DEFAULT_FRAME_MAX}"
        ))),
    }
}

/// 0 asks for nothing, as in `connection.tune`.
fn channel_max(channels: u16) -> Result<Option<u16>, UriError> {
    match channels {
        0 => Ok(None),
        1 => Err(UriError::new(
            "channel_max = 1 leaves no channel beside the one on which the topology is declared: write 2 or more, or \
             leave it out",
        )),
        _ => Ok(Some(channels)),
    }
}

fn number<N: std::str::FromStr>(key: &str, value: &str) -> Result<N, UriError> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| UriError::new(format!("{key} = `{value}` is not a number in range")))
}

#[cfg(test)]
mod tests;
