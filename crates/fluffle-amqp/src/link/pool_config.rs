//! The bounds of a connection pool, as applications set them.

use std::time::Duration;

/// How many connections and channels. The same bounds hold for publishing and consuming, each counted by itself.
///
/// | setting | default | |
/// |---|---|---|
/// | `connections` | 1 | open from the start and always |
/// | `max_connections` | 4 | more are opened when each has `spread` channels |
/// | `spread` | 32 | channels on each connection before another is opened: for every frame it writes, lapin looks at each channel of the connection |
/// | `channels` | 256 | most on one connection, once there may be no more connections; one less than `channel_max` (the broker's is 2047, the URI may ask for less) if that is fewer |
/// | `acquire_timeout` | 10 s | how long to wait for a channel when everything is taken |
/// | `idle_timeout` | 60 s | after which an extra connection without channels is closed |
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
    /// Connections open from the start and always, at least 1.
    pub connections: usize,
    /// Most connections, at least `connections`.
    pub max_connections: usize,
    /// Channels on each connection before another is opened, at least 1. With as many as `channels`, connections are
    /// filled one after the other.
    pub spread: usize,
    /// Most channels on one connection, at least 1.
    pub channels: usize,
    /// How long to wait for a channel when everything is taken.
    pub acquire_timeout: Duration,
    /// How long an extra connection stays open without a channel.
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
