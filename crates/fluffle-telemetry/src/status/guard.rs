//! Who may ask what: decided here and nowhere else.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    StatusCode,
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN},
};

/// The rules of one server.
#[derive(Clone)]
pub(crate) struct Guard {
    token: Option<Token>,
    hosts: Vec<String>,
    /// Whether reading needs the token too: if others than this host can connect.
    is_public: bool,
}

/// The secret that actions need. It never shows itself.
#[derive(Clone)]
pub(crate) struct Token(String);

/// What a request may be refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) &'static str);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// A probe, or the page without anything of the service.
    Anybody,
    /// What the service does.
    Reading,
    /// An action.
    Acting,
}

impl Guard {
    pub(crate) fn new(bound_to: SocketAddr, token: Option<String>, hosts: Vec<String>) -> Self {
        Self { token: token.map(Token), hosts, is_public: !bound_to.ip().is_loopback() }
    }

    /// Whether reading needs the token.
    pub(crate) fn reading_needs_token(&self) -> bool {
        self.is_public
    }

    /// Whether a request with these headers may do what it is for.
    pub(crate) fn check(&self, what: For, headers: &HeaderMap) -> Result<(), Refused> {
        self.check_host(headers)?;
        match what {
            For::Anybody => Ok(()),
            For::Reading if !self.is_public => Ok(()),
            For::Reading => self.check_token(headers),
            For::Acting => {
                check_origin(headers)?;
                self.check_token(headers)
            }
        }
    }

    /// A page elsewhere can give its own name this server's address (DNS rebinding), and the browser then takes this
    /// server for that page's. The name in `Host` gives it away: an address, or a name that is known here, is sound.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let host = one(headers, &HOST).map(name_of);
        let is_known = |name: &str| {
            name == "localhost"
                || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
        };
        match host {
            Some(name) if is_known(&name.to_ascii_lowercase()) => Ok(()),
            Some(_) => Err(Refused(
                StatusCode::MISDIRECTED_REQUEST,
                "this name is not one of this server's: ask by address, or allow the name with `Status::allow_host`",
            )),
            None => Err(Refused(StatusCode::BAD_REQUEST, "the request has no header `Host`, or several")),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(token) = &self.token else {
            return Err(Refused(StatusCode::FORBIDDEN, "actions need a token, and none is set: see `Status::token`"));
        };
        let given = one(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        match given {
            Some(given) if token.is(given) => Ok(()),
            Some(_) => Err(Refused(StatusCode::FORBIDDEN, "the token is wrong")),
            None => Err(Refused(StatusCode::UNAUTHORIZED, "this needs the header `Authorization: Bearer <token>`")),
        }
    }
}

/// A browser says which page sends a request. Only this server's own page may act.
fn check_origin(headers: &HeaderMap) -> Result<(), Refused> {
    let foreign =
        Refused(StatusCode::FORBIDDEN, "actions are for this server's own page: the header `Origin` is another's");
    let (origin, host) = (one(headers, &ORIGIN).ok_or(foreign)?, one(headers, &HOST).ok_or(foreign)?);
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) { Ok(()) } else { Err(foreign) }
}

impl Token {
    /// Takes the same time for every token of a length.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differs = own.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b));
        std::hint::black_box(differs) == 0 && own.len() == given.len()
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
    match authority.rfind(':') {
        Some(colon)
            if authority[colon + 1..].bytes().all(|byte| byte.is_ascii_digit())
                && !authority[..colon].contains(':') =>
        {
            &authority[..colon]
        }
        Some(colon) if authority[..colon].ends_with(']') => &authority[..colon],
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

    fn local() -> Guard {
        Guard::new(LOCAL.parse().unwrap(), Some("s3cret".to_owned()), vec!["orders.svc".to_owned()])
    }

    #[test]
    fn only_addresses_and_known_names_are_hosts() {
        for (host, expected) in [
            ("127.0.0.1:9464", 200),
            ("localhost:9464", 200),
            ("LOCALHOST", 200),
            ("[::1]:9464", 200),
            ("10.1.2.3", 200),
            ("Orders.svc:80", 200),
            ("evil.example:9464", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost.evil.example", 421),
            ("", 421),
        ] {
            assert_eq!(status(local().check(For::Anybody, &headers(&[("host", host)]))), expected, "{host}");
        }
        assert_eq!(status(local().check(For::Anybody, &headers(&[]))), 400);
        let two = headers(&[("host", LOCAL), ("host", "evil.example")]);
        assert_eq!(status(local().check(For::Reading, &two)), 400);
    }

    #[test]
    fn an_action_needs_the_own_origin_and_the_token() {
        let own = ("origin", "http://127.0.0.1:9464");
        for (more, expected) in [
            (vec![own, ("authorization", "Bearer s3cret")], 200),
            (vec![own, ("authorization", "Bearer s3cre")], 403),
            (vec![own, ("authorization", "Bearer s3cret2")], 403),
            (vec![own, ("authorization", "Basic s3cret")], 401),
            (vec![own], 401),
            (vec![("authorization", "Bearer s3cret")], 403),
            (vec![("origin", "null"), ("authorization", "Bearer s3cret")], 403),
            (vec![("origin", "http://evil.example"), ("authorization", "Bearer s3cret")], 403),
            (vec![("origin", "http://127.0.0.1:9465"), ("authorization", "Bearer s3cret")], 403),
        ] {
            let all: Vec<_> = [("host", LOCAL)].into_iter().chain(more).collect();
            assert_eq!(status(local().check(For::Acting, &headers(&all))), expected, "{all:?}");
        }
        let without = Guard::new(LOCAL.parse().unwrap(), None, Vec::new());
        let all = headers(&[("host", LOCAL), own, ("authorization", "Bearer ")]);
        assert_eq!(status(without.check(For::Acting, &all)), 403);
    }

    #[test]
    fn where_others_can_connect_reading_needs_the_token_too() {
        let public = Guard::new("0.0.0.0:9464".parse().unwrap(), Some("s3cret".to_owned()), Vec::new());
        let host = ("host", "10.0.0.1:9464");
        assert_eq!(status(public.check(For::Anybody, &headers(&[host]))), 200);
        assert_eq!(status(public.check(For::Reading, &headers(&[host]))), 401);
        assert_eq!(status(public.check(For::Reading, &headers(&[host, ("authorization", "Bearer s3cret")]))), 200);
        assert_eq!(status(local().check(For::Reading, &headers(&[("host", LOCAL)]))), 200);
    }
}
