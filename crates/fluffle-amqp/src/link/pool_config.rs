//! The bounds of a connection pool, as applications set them.

use std::time::Duration;

/// The bounds of a connection pool. The same bounds hold for publishing and for consuming, which have a pool each. A
/// file sets them as `pool` of [`BrokerSettings`](crate::BrokerSettings).
///
/// | setting | default |
/// |---|---|
/// | [`connections`](Self::connections) | 1 |
/// | [`max_connections`](Self::max_connections) | 4 |
/// | [`spread`](Self::spread) | 32 |
/// | [`channels`](Self::channels) | 256 |
/// | [`acquire_timeout`](Self::acquire_timeout) | 10 s |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s |
///
/// ```
/// use fluffle_amqp::{Broker, PoolConfig};
///
/// let pool = PoolConfig { connections: 2, channels: 64, ..PoolConfig::default() };
/// let broker = Broker::new("amqp://localhost")?.pool(pool);
/// # Ok::<(), fluffle_amqp::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Connections that are opened at the start and stay open; at least 1.
    pub connections: usize,
    /// The most connections; at least `connections`. Another one is opened when each has `spread` channels.
    pub max_connections: usize,
    /// Channels on each connection before another connection is opened; at least 1. A low number is faster, because
    /// lapin looks at each channel of the connection for every frame it writes. If `spread` is as large as `channels`,
    /// the connections are filled one after the other.
    pub spread: usize,
    /// The most channels on one connection once no more connections are allowed; at least 1. If `channel_max` less one
    /// is lower, that holds instead: the broker's `channel_max` is 2047 by default, and a URI may ask for less.
    pub channels: usize,
    /// How long a caller waits for a channel if all are in use.
    pub acquire_timeout: Duration,
    /// How long a connection beyond `connections` stays open without a channel.
    pub idle_timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connections: 1,
            max_connections: 4,
            spread: 32,
            channels: 256,
            acquire_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}
