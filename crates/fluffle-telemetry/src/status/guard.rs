//! Who may ask what: decided here and nowhere else.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN},
};
use subtle::ConstantTimeEq;

use crate::status::error::StatusError;

/// The rules of one server.
pub(crate) struct Guard {
    /// The address that clients connect to, with the port that the system chose.
    address: SocketAddr,
    token: Option<Secret>,
    hosts: Vec<String>,
    /// What the cookie of a login holds.
    session: Secret,
}

/// A text that is compared in constant time and never shown.
struct Secret(String);

/// What a request is refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) &'static str);

impl Guard {
    pub(crate) fn new(address: SocketAddr, token: Option<String>, hosts: Vec<String>) -> Result<Self, StatusError> {
        Ok(Self { address, token: token.map(Secret), hosts, session: Secret::random()? })
    }

    /// Whether other hosts reach the server, so that reading needs the token or the cookie.
    pub(crate) fn is_exposed(&self) -> bool {
        is_exposed(self.address)
    }

    /// A page of another site can reach this server through the reader's browser, if that site's name resolves to this
    /// host (DNS rebinding). Such a request carries the site's name in `Host`. No site can claim an address, because an
    /// address needs no name service: probes and scrapers, which connect by address, are answered. The port may be
    /// another one than the server's, because ports are forwarded.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match one(headers, &HOST) {
            Some(host) if self.knows(name_of(host)) => Ok(()),
            Some(_) => Err(Refused(
                StatusCode::MISDIRECTED_REQUEST,
                "this host is not one of this server's: ask for the address that the server listens on, or allow the \
                 name with `Status::allow_host`",
            )),
            None => Err(Refused(StatusCode::BAD_REQUEST, "a request needs exactly one header `Host`")),
        }
    }

    fn knows(&self, name: &str) -> bool {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if self.hosts.iter().any(|known| known.eq_ignore_ascii_case(bare)) {
            return true;
        }
        match bare.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback() || self.is_exposed(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether the request may read: always if no other host reaches the server, else with the token or the cookie.
    pub(crate) fn may_read(&self, headers: &HeaderMap) -> bool {
        !self.is_exposed() || self.has_token(headers) || self.has_cookie(headers)
    }

    pub(crate) fn check_read(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if self.may_read(headers) { Ok(()) } else { self.check_token(headers) }
    }

    /// Whether the request carries the token. The cookie of a login is not enough for an action, because a browser adds
    /// a cookie by itself.
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if self.has_token(headers) {
            return Ok(());
        }
        let words = match headers.contains_key(AUTHORIZATION) {
            true => "the token is wrong: this needs the header `Authorization: Bearer <token>`",
            false => "this needs the token of the status server, as `Authorization: Bearer <token>`",
        };
        Err(Refused(StatusCode::UNAUTHORIZED, words))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return false };
        let given = one(headers, &AUTHORIZATION).and_then(|given| given.split_once(' '));
        given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()))
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(given, value)| given == name && self.session.is(value))
    }

    /// Browsers send cookies to every port of a host, so the name holds the port.
    fn cookie_name(&self) -> String {
        format!("fluffle_status_{}", self.address.port())
    }

    /// The cookie for a reader who knows the token. It holds a random value of this server and not the token, because a
    /// browser sends it to other servers of the same host as well.
    pub(crate) fn log_in(&self, token: &str) -> Option<String> {
        self.token.as_ref().filter(|own| own.is(token))?;
        Some(format!("{}={}; HttpOnly; SameSite=Strict", self.cookie_name(), self.session.0))
    }
}

/// A browser says in `Origin` which page sends a request. Only this server's own page may act.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), Refused> {
    let foreign = Refused(
        StatusCode::FORBIDDEN,
        "actions are for this server's own page: the header `Origin` must name the address that `Host` names",
    );
    let (origin, host) = (one(headers, &ORIGIN).ok_or(foreign)?, one(headers, &HOST).ok_or(foreign)?);
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) { Ok(()) } else { Err(foreign) }
}

/// A form of any page can send other kinds of content without asking the browser.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = one(headers, &CONTENT_TYPE).and_then(|kind| kind.split(';').next()).map(str::trim);
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "an action needs a JSON body, with `Content-Type: application/json`",
        )),
    }
}

/// Whether other hosts reach an address.
pub(crate) fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

impl Secret {
    fn random() -> Result<Self, StatusError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| StatusError::Random(error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

/// The name in `name:port` or `[address]:port`.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn status(result: Result<(), Refused>) -> u16 {
        result.map_or_else(|Refused(status, _)| status.as_u16(), |()| 200)
    }

    const LOCAL: &str = "127.0.0.1:9464";

    fn guard(address: &str) -> Guard {
        Guard::new(address.parse().unwrap(), Some("s3cret".to_owned()), vec!["orders.svc".to_owned()]).unwrap()
    }

    #[test]
    fn only_own_addresses_and_known_names_are_hosts() {
        for (host, here, exposed) in [
            ("127.0.0.1:9464", 200, 200),
            ("localhost:9464", 200, 200),
            ("LOCALHOST", 200, 200),
            ("[::1]:8080", 200, 200),
            ("[::ffff:127.0.0.1]:9464", 200, 200),
            ("Orders.svc:80", 200, 200),
            ("10.1.2.3", 421, 200),
            ("[2001:db8::1]:9464", 421, 200),
            ("evil.example:9464", 421, 421),
            ("127.0.0.1.evil.example", 421, 421),
            ("localhost.evil.example", 421, 421),
            ("localhost@evil.example", 421, 421),
            ("[localhost]", 421, 421),
            ("localhost:80:80", 421, 421),
            ("", 421, 421),
        ] {
            let host_header = headers(&[("host", host)]);
            assert_eq!(status(guard(LOCAL).check_host(&host_header)), here, "{host}");
            assert_eq!(status(guard("0.0.0.0:9464").check_host(&host_header)), exposed, "{host} from outside");
        }
        assert_eq!(status(guard(LOCAL).check_host(&headers(&[]))), 400);
        let two = headers(&[("host", LOCAL), ("host", "evil.example")]);
        assert_eq!(status(guard(LOCAL).check_host(&two)), 400);
    }

    #[test]
    fn only_the_own_origin_may_act() {
        for (origin, expected) in [
            (Some("http://127.0.0.1:9464"), 200),
            (Some("https://127.0.0.1:9464"), 200),
            (Some("http://127.0.0.1:9465"), 403),
            (Some("http://127.0.0.1:9464.evil.example"), 403),
            (Some("ftp://127.0.0.1:9464"), 403),
            (Some("null"), 403),
            (None, 403),
        ] {
            let origin = origin.map(|origin| ("origin", origin));
            let all: Vec<_> = [("host", LOCAL)].into_iter().chain(origin).collect();
            assert_eq!(status(check_origin(&headers(&all))), expected, "{origin:?}");
        }
        let two = headers(&[("host", LOCAL), ("origin", "http://127.0.0.1:9464"), ("origin", "http://evil.example")]);
        assert_eq!(status(check_origin(&two)), 403);
    }

    #[test]
    fn the_token_is_a_bearer_that_is_there_once() {
        for (given, expected) in [
            ("Bearer s3cret", 200),
            ("bearer  s3cret", 200),
            ("Bearer s3cre", 401),
            ("Bearer s3cret2", 401),
            ("Basic s3cret", 401),
            ("s3cret", 401),
            ("Bearer ", 401),
        ] {
            assert_eq!(status(guard(LOCAL).check_token(&headers(&[("authorization", given)]))), expected, "{given}");
        }
        let two = headers(&[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")]);
        assert_eq!(status(guard(LOCAL).check_token(&two)), 401);
        let without = Guard::new(LOCAL.parse().unwrap(), None, Vec::new()).unwrap();
        assert_eq!(status(without.check_token(&headers(&[("authorization", "Bearer ")]))), 401);
    }

    #[test]
    fn where_others_can_connect_reading_needs_the_token_too() {
        assert!(guard(LOCAL).may_read(&headers(&[])));
        let exposed = guard("0.0.0.0:9464");
        assert!(!exposed.may_read(&headers(&[])));
        assert!(exposed.may_read(&headers(&[("authorization", "Bearer s3cret")])));
        assert!(exposed.log_in("s3cre").is_none());
        let cookie = exposed.log_in("s3cret").unwrap();
        let (pair, _) = cookie.split_once(';').unwrap();
        assert!(exposed.may_read(&headers(&[("cookie", &format!("other=1; {pair}"))])));
        assert!(!exposed.may_read(&headers(&[("cookie", &pair[..pair.len() - 1])])));
        assert!(!guard("0.0.0.0:9464").may_read(&headers(&[("cookie", pair)])), "another server's cookie");
    }
}
