//! [`StatusError`]: why the status server cannot be started.

use std::{io, net::SocketAddr};

/// The least bytes of a token.
pub(crate) const SHORTEST_TOKEN: usize = 16;

/// The most bytes of a token.
pub(crate) const LONGEST_TOKEN: usize = 256;

/// Why the status server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The address is no IP address with a port.
    #[error(
        "the status server cannot listen on `{0}`: this is no IP address with a port. Write for example \
         `127.0.0.1:9464` or `[::1]:9464`; port 0 takes any that is free"
    )]
    Address(String),
    /// The address cannot be used.
    #[error(
        "the status server cannot listen on {address}: {error}. If another program has the port, `ss -ltnp 'sport = \
         :{port}'` says which: choose another port, or port 0 for any that is free. Else look whether this host has \
         the address, and whether the process may use a port below 1024",
        port = address.port()
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Others could read without a token.
    #[error(
        "the status server does not listen on {0} without a token: other hosts can reach this address, and the page \
         shows queues, errors and message ids. Set a token with `Status::token`, from the environment or a file; or \
         listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// Actions are allowed, and there is no token.
    #[error(
        "the status server does not allow actions ({0}) without a token: every program of this host could take them. \
         Set a token with `Status::token`, from the environment or a file; or allow no action"
    )]
    Actions(String),
    /// The token is too short to be a secret, or too long for a header.
    #[error(
        "the token of the status server has {0} bytes: it needs {SHORTEST_TOKEN} to {LONGEST_TOKEN}, so that nobody \
         can guess it. `openssl rand -hex 32` makes one"
    )]
    Token(usize),
    /// The token has characters that a header cannot carry. It is not shown.
    #[error(
        "the token of the status server has characters that a header cannot carry: it needs visible ASCII characters \
         without spaces. If it comes from a file, remove the line break at its end"
    )]
    Unprintable,
    /// A name for `Status::allow_host` is no name of a host.
    #[error(
        "the status server cannot allow the host `{0}`: this is no name of a host. Write for example \
         `status.example.org`, without a scheme, a port, a path or a wildcard"
    )]
    Host(String),
    /// The server's thread, or its runtime, cannot be started.
    #[error("the thread of the status server cannot be started: {0}. Look at the limits of this process (`ulimit -a`)")]
    Thread(#[source] io::Error),
    /// The system has no random numbers for the cookie of a login.
    #[error("the status server cannot be started: the system gives no random numbers ({0})")]
    Random(String),
}
