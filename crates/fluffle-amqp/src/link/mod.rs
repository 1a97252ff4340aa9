//! The way to the broker: addresses, TLS, sockets, connections and channels.

pub(crate) mod broker;
pub(crate) mod channel;
pub(crate) mod class;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod pending_starts;
pub(crate) mod pool;
pub(crate) mod sanitizer;
pub(crate) mod socket;
pub(crate) mod tls;
