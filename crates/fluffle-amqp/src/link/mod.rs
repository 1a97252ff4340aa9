//! The way to the broker: addresses, TLS, sockets, connections, channels and declarations.

pub(crate) mod bounded;
pub(crate) mod broker;
pub(crate) mod broker_settings;
pub(crate) mod channel;
pub(crate) mod class;
pub(crate) mod connection;
pub(crate) mod connection_shared;
pub(crate) mod declare;
pub(crate) mod depth;
pub(crate) mod endpoint;
pub(crate) mod endpoint_order;
pub(crate) mod learned;
mod losses;
pub(crate) mod outage;
pub(crate) mod pending_starts;
pub(crate) mod pool;
pub(crate) mod pool_config;
pub(crate) mod refusal;
pub(crate) mod sanitizer;
pub(crate) mod since;
pub(crate) mod socket;
pub(crate) mod standing;
pub(crate) mod tls;
mod too_many_channels;
pub(crate) mod topology_store;
pub(crate) mod unreached;
pub(crate) mod uri;
