//! [`Status`]: where the status server listens, and what it may do.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use crate::status::{
    actions::Action,
    error::{LONGEST_TOKEN, SHORTEST_TOKEN, StatusError},
    guard::is_exposed,
};

/// Where the status server listens, and what it may do. `App::status` takes an address alone, or this.
///
/// | setting | default |
/// |---|---|
/// | [`allow_host`](Status::allow_host) | `localhost`, and this host's addresses |
/// | [`token`](Status::token) | none: everybody on this host may read, and nobody may act |
/// | [`allow`](Status::allow) | no action |
/// | [`metrics_without_token`](Status::metrics_without_token) | no: `/metrics` is as open as the page |
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
    pub(crate) open_metrics: bool,
}

impl Status {
    /// A server on this address, such as `127.0.0.1:9464`. Port 0 takes any that is free.
    #[must_use]
    pub fn on(address: impl Into<String>) -> Self {
        let (token, hosts, actions) = (None, Vec::new(), BTreeSet::new());
        Self { address: address.into(), token, hosts, actions, open_metrics: false }
    }

    /// Sets the secret that actions need, and that reading needs where other hosts can connect: programs send it as
    /// `Authorization: Bearer <token>`, and the page asks for it. 16 to 256 visible ASCII characters. Take it from the
    /// environment or from a file.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Answers requests for this name, as browsers and Prometheus say it in the header `Host`, with any port. Requests
    /// for `localhost` and for an address of loopback are always answered, and those for any other address if the
    /// server listens on one that other hosts reach. Any other name is refused, because a foreign page can make its own
    /// name lead here (DNS rebinding). Behind a proxy, allow the name that the proxy sends.
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

    /// Lets other hosts read `/metrics` without the token, for a Prometheus that has none. The metrics name queues,
    /// publishers and nodes of the tree, and have no message's id, body or error.
    #[must_use]
    pub fn metrics_without_token(mut self) -> Self {
        self.open_metrics = true;
        self
    }

    /// Checks what needs no network.
    pub(crate) fn check(&self) -> Result<SocketAddr, StatusError> {
        let address = self.address.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr = address.parse().map_err(|_| StatusError::Address(self.address.clone()))?;
        if let Some(wrong) = self.hosts.iter().find(|name| !is_host_name(name)) {
            return Err(StatusError::Host(wrong.clone()));
        }
        match &self.token {
            Some(token) if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()) => {
                Err(StatusError::Token(token.len()))
            }
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err(StatusError::Unprintable),
            None if is_exposed(address) => Err(StatusError::Open(address)),
            None if !self.actions.is_empty() => {
                let names: Vec<_> = self.actions.iter().map(|action| action.as_str()).collect();
                Err(StatusError::Actions(names.join(", ")))
            }
            _ => Ok(address),
        }
    }
}

/// Whether this is a name, or an address, as it stands in `Host` before the port.
fn is_host_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    is_address || (!name.is_empty() && name.bytes().all(is_part))
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
            .field("open_metrics", &self.open_metrics)
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
        assert!(refused(Status::on("0.0.0.0:1")).contains("`Status::token`"));
        assert!(refused(Status::on("[::]:1")).contains("other hosts can reach"));
        assert!(refused(Status::on("[::ffff:10.0.0.1]:1")).contains("other hosts can reach"));
        assert!(refused(Status::on("127.0.0.1:1").allow([Action::Pause])).contains("actions (pause)"));
        assert!(refused(Status::on("127.0.0.1:1").token("short")).contains("needs 16 to 256"));
        assert!(refused(Status::on("9464")).contains("`9464`: this is no IP address"));
        assert!(Status::on("localhost:0").check().is_ok());
        assert!(Status::on("[::ffff:127.0.0.1]:0").check().is_ok());
        assert!(Status::on("0.0.0.0:1").token(SECRET).check().is_ok());
        let shown = format!("{:?}", Status::on("127.0.0.1:1").token(SECRET));
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
