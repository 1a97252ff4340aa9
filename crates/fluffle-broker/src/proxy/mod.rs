//! A TCP proxy with network faults, for use in front of any broker.

mod pipe;
mod thread;

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle};

use tokio::sync::oneshot;

use crate::{
    error::BrokerError,
    fault::{Faults, Place},
};

/// A TCP proxy in front of a broker, with the faults that do not need the broker's help:
/// [`Refuse`](crate::Fault::Refuse), [`HalfOpen`](crate::Fault::HalfOpen), [`Cut`](crate::Fault::Cut),
/// [`Stall`](crate::Fault::Stall), [`Delay`](crate::Fault::Delay) and [`Slow`](crate::Fault::Slow). It knows bytes, not
/// frames: it checks rules when a connection is [accepted](crate::Event::Accepted), and a rule may wait [for
/// bytes](crate::Rule::after_bytes).
///
/// It buffers 64 KiB for each connection and direction, so a peer that does not read slows down the peer that writes.
/// It carries 1,000 connections at a time; further ones are closed at once. Dropping the proxy drops its connections.
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
    /// Dropping this ends the thread.
    alive: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, with a random seed.
    ///
    /// # Errors
    ///
    /// If no port or thread is available.
    pub fn start(upstream: SocketAddr) -> Result<Self, BrokerError> {
        Self::with_seed(upstream, fastrand::u64(..))
    }

    /// Starts a proxy whose [faults](Self::faults) take all randomness from `seed`.
    ///
    /// # Errors
    ///
    /// If no port or thread is available.
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

    /// Returns the broker's AMQP URI with the proxy's address in it; user, password, virtual host and parameters stay
    /// the same.
    pub fn url_for(&self, upstream: &str) -> String {
        with_address(upstream, self.address)
    }

    /// The faults of this proxy.
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
