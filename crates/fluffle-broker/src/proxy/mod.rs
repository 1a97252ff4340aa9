//! A TCP proxy with faults, to stand before any broker.

mod pipe;
mod thread;

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle};

use tokio::sync::oneshot;

use crate::{
    error::BrokerError,
    fault::{Faults, Place},
};

/// A TCP proxy before a broker, with the faults that need no broker's help: [`Refuse`](crate::Fault::Refuse),
/// [`HalfOpen`](crate::Fault::HalfOpen), [`Cut`](crate::Fault::Cut), [`Stall`](crate::Fault::Stall),
/// [`Delay`](crate::Fault::Delay) and [`Slow`](crate::Fault::Slow). It knows bytes, not frames: rules are asked when a
/// connection is [accepted](crate::Event::Accepted), and may wait [for bytes](crate::Rule::after_bytes).
///
/// It holds 64 KiB for each connection and direction: who does not read slows down who writes. 1,000 connections at
/// a time; what comes beyond is closed at once. Dropping it drops its connections.
///
/// ```
/// use fluffle_broker::{Broker, Direction, Fault, Proxy, Rule};
///
/// let broker = Broker::start()?; // or RabbitMQ, anywhere
/// let proxy = Proxy::start(broker.address())?;
/// proxy.faults().inject(Rule::new(Fault::Cut).after_bytes(Direction::ToClient, 10_000).probability(0.5))?;
/// println!("connect to {}", proxy.url_for(&broker.url()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: Faults,
    /// Its end is the thread's.
    alive: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, with a seed of chance.
    ///
    /// # Errors
    ///
    /// When no port can be had or no thread be started.
    pub fn start(upstream: SocketAddr) -> Result<Self, BrokerError> {
        Self::with_seed(upstream, fastrand::u64(..))
    }

    /// The same, with the seed that all chance in its [faults](Self::faults) comes from.
    ///
    /// # Errors
    ///
    /// When no port can be had or no thread be started.
    pub fn with_seed(upstream: SocketAddr, seed: u64) -> Result<Self, BrokerError> {
        let (faults, requests) = Faults::new(Place::Proxy, seed);
        let (alive, ended) = oneshot::channel();
        let (started, listening) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("fluffle-proxy".to_owned())
            .spawn(move || thread::run(upstream, seed, requests, ended, started))
            .map_err(BrokerError::Thread)?;
        let address = listening.recv().map_err(|_| BrokerError::Gone)??;
        Ok(Self { address, faults, alive: Some(alive), thread: Some(thread) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// An AMQP URI of the broker's with the proxy's address in it: same user, password, virtual host and parameters.
    pub fn url_for(&self, upstream: &str) -> String {
        with_address(upstream, self.address)
    }

    /// What can be made to go wrong here.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.alive.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn with_address(url: &str, address: SocketAddr) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{user}@{address}{path}"),
        None => format!("{scheme}://{address}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_everything_but_its_address() {
        let address = ([127, 0, 0, 1], 7).into();
        for (url, expected) in [
            ("amqp://guest:p%40ss@host:5672/%2f?heartbeat=1", "amqp://guest:p%40ss@127.0.0.1:7/%2f?heartbeat=1"),
            ("amqp://host/v", "amqp://127.0.0.1:7/v"),
            ("amqp://host?heartbeat=1", "amqp://127.0.0.1:7?heartbeat=1"),
            ("amqp://u@[::1]:5672", "amqp://u@127.0.0.1:7"),
        ] {
            assert_eq!(with_address(url, address), expected);
        }
    }
}
