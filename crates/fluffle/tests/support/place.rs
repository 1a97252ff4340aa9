//! Where a test runs: on RabbitMQ in a virtual host of its own, or on an embedded broker. The framework's promises are
//! the same on both.

use std::collections::HashMap;

use fluffle_broker::{Broker, Fault, Target};
use fluffle_harness::{QueueDepth, RabbitMq, Vhost};

use super::SOON;

/// The variable that selects the broker: `embedded` for the embedded broker, anything else for RabbitMQ. `cargo xtask
/// test` runs the tests on both.
const WHICH: &str = "FLUFFLE_TEST_BROKER";

/// The only virtual host of the embedded broker. It is not `/`, so that tests can replace its name in a URL.
const NAME: &str = "tests";

pub enum Place {
    RabbitMq(Vhost<'static>),
    Embedded { broker: Broker, url: String },
}

/// A connection as the broker sees it.
pub struct OpenConnection {
    pub client_name: String,
    pub channels: usize,
}

/// A new place for one test.
pub fn vhost() -> Place {
    if std::env::var(WHICH).is_ok_and(|which| which == "embedded") {
        let broker = Broker::builder().vhost(NAME).start().expect("a broker");
        let url = broker.url().replace("/%2f", &format!("/{NAME}"));
        return Place::Embedded { broker, url };
    }
    Place::RabbitMq(RabbitMq::shared().expect("a broker").fresh_vhost().expect("a vhost"))
}

impl Place {
    pub fn url(&self) -> &str {
        match self {
            Self::RabbitMq(vhost) => vhost.url(),
            Self::Embedded { url, .. } => url,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::RabbitMq(vhost) => vhost.name(),
            Self::Embedded { .. } => NAME,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::RabbitMq(vhost) => vhost.broker().port(),
            Self::Embedded { broker, .. } => broker.port(),
        }
    }

    /// Closes every connection, and returns how many there were.
    pub fn close_connections(&self, reason: &str) -> usize {
        match self {
            Self::RabbitMq(vhost) => vhost.close_connections(reason).expect("closed"),
            Self::Embedded { broker, .. } => strike(broker, reason, Target::all()),
        }
    }

    /// Closes the connections whose client gave them this name.
    pub fn close_connections_named(&self, name: &str, reason: &str) {
        match self {
            Self::RabbitMq(vhost) => {
                vhost.broker().close_connections_named(name, reason).expect("closed");
            }
            Self::Embedded { broker, .. } => {
                strike(broker, reason, Target::connection(name));
            }
        }
    }

    pub fn depth(&self, queue: &str) -> QueueDepth {
        match self {
            Self::RabbitMq(vhost) => vhost.queue_depths().expect("depths").get(queue).copied().unwrap_or_default(),
            Self::Embedded { broker, .. } => {
                let state = broker.snapshot().expect("a snapshot");
                state.queue(queue).map_or_else(QueueDepth::default, |queue| {
                    let [ready, unacked, consumers] =
                        [queue.ready, queue.unacked, queue.consumers].map(|count| count as u64);
                    QueueDepth { ready, unacked, consumers }
                })
            }
        }
    }

    pub fn wait_depth(&self, queue: &str, wished: impl Fn(QueueDepth) -> bool) {
        let deadline = std::time::Instant::now() + SOON;
        while !wished(self.depth(queue)) {
            assert!(std::time::Instant::now() < deadline, "the depth of {queue} is still {:?}", self.depth(queue));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The open connections of this place.
    pub fn connections(&self) -> Vec<OpenConnection> {
        match self {
            Self::RabbitMq(vhost) => {
                let all = vhost.broker().list_connections().expect("connections");
                let ours = all.into_iter().filter(|one| one.vhost == vhost.name());
                ours.map(|one| OpenConnection { client_name: one.client_name, channels: one.channels }).collect()
            }
            Self::Embedded { broker, .. } => {
                let all = broker.snapshot().expect("a snapshot").connections;
                all.into_iter().map(|one| OpenConnection { client_name: one.name, channels: one.channels }).collect()
            }
        }
    }
}

fn strike(broker: &Broker, reason: &str, target: Target) -> usize {
    let fault = Fault::CloseConnection { code: 320, text: format!("CONNECTION_FORCED - {reason}") };
    broker.faults().strike(fault, target).expect("struck").fired() as usize
}
