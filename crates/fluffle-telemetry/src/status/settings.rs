//! [`Status`]: where the status server listens, and what it may do.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use crate::status::actions::Action;

/// Where the status server listens, and what it may do. `App::status` takes an address alone, or this.
///
/// | setting | default |
/// |---|---|
/// | [`allow_host`](Status::allow_host) | `localhost` and all addresses |
/// | [`token`](Status::token) | none: everybody on this host may read, and nobody may act |
/// | [`allow`](Status::allow) | no action |
///
/// ```
/// use fluffle_telemetry::status::{Action, Status};
///
/// let secret = std::env::var("STATUS_TOKEN").unwrap_or_else(|_| "only for this example".to_owned());
/// let status = Status::on("127.0.0.1:9464").token(secret).allow([Action::Pause, Action::Replay]);
/// ```
#[derive(Clone)]
pub struct Status {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) actions: BTreeSet<Action>,
}

/// Why the status server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The address is no address.
    #[error("`{0}` is no address for the status server: write an IP address and a port, for example `127.0.0.1:9464`")]
    Address(String),
    /// The address cannot be used.
    #[error(
        "the status server cannot listen on {address}: {error}. If another program has the port (`ss -ltnp` says \
         which), choose another one; port 0 takes any that is free"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// Others could read or act without a token.
    #[error(
        "the status server would listen on {0}, where other hosts can connect, and no token is set: set one with \
         `Status::token`, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// Actions are allowed, and everybody could take them.
    #[error("the status server would allow actions ({0}) to everybody: set a token with `Status::token`")]
    Actions(String),
    /// A token that is too short to be a secret.
    #[error("the token of the status server has {0} bytes: it needs at least {SHORTEST}, so that nobody can guess it")]
    Token(usize),
    /// The server's thread cannot be started.
    #[error("the thread of the status server cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The least bytes of a token.
const SHORTEST: usize = 16;

impl Status {
    /// A server on this address, such as `127.0.0.1:9464`. Port 0 takes any that is free.
    #[must_use]
    pub fn on(address: impl Into<String>) -> Self {
        Self { address: address.into(), token: None, hosts: Vec::new(), actions: BTreeSet::new() }
    }

    /// Sets the secret that actions need, and that reading needs where other hosts can connect: as
    /// `Authorization: Bearer <token>`. At least 16 bytes. Take it from the environment or from a file.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Allows requests for this name, as browsers and Prometheus say it in the header `Host`, without a port. Requests
    /// for an address, or for `localhost`, are always allowed; for any other name they are refused, because a foreign
    /// page can make its own name lead here (DNS rebinding).
    #[must_use]
    pub fn allow_host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Allows these actions to whoever has the token. Each one is logged.
    #[must_use]
    pub fn allow(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    /// Checks what needs no network.
    pub(crate) fn check(&self) -> Result<SocketAddr, StatusError> {
        let address = self.address.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr = address.parse().map_err(|_| StatusError::Address(self.address.clone()))?;
        match &self.token {
            Some(token) if token.len() < SHORTEST => Err(StatusError::Token(token.len())),
            None if !address.ip().is_loopback() => Err(StatusError::Open(address)),
            None if !self.actions.is_empty() => {
                let names: Vec<_> = self.actions.iter().map(|action| action.as_str()).collect();
                Err(StatusError::Actions(names.join(", ")))
            }
            _ => Ok(address),
        }
    }
}

impl From<&str> for Status {
    fn from(address: &str) -> Self {
        Self::on(address)
    }
}

impl From<String> for Status {
    fn from(address: String) -> Self {
        Self::on(address)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("hosts", &self.hosts)
            .field("actions", &self.actions)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn what_would_be_open_to_everybody_is_refused_with_what_to_do() {
        let refused = |status: Status| status.check().unwrap_err().to_string();
        assert!(refused(Status::on("0.0.0.0:1")).contains("set one with `Status::token`"));
        assert!(refused(Status::on("[::]:1")).contains("other hosts can connect"));
        assert!(refused(Status::on("127.0.0.1:1").allow([Action::Pause])).contains("actions (pause)"));
        assert!(refused(Status::on("127.0.0.1:1").token("short")).contains("at least 16"));
        assert!(refused(Status::on("9464")).contains("`9464` is no address"));
        assert!(Status::on("localhost:0").check().is_ok());
        assert!(Status::on("0.0.0.0:1").token(SECRET).check().is_ok());
        let shown = format!("{:?}", Status::on("127.0.0.1:1").token(SECRET));
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
