//! The broker's handle and its builder.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::sync::mpsc as commands;

use crate::{
    ask::ask,
    engine::Limits,
    error::BrokerError,
    fault::{Faults, Place},
    message::QueuedMessage,
    protocol::Settings,
    snapshot::Snapshot,
    thread::{Command, Making, run},
};

/// How many commands may wait for the broker's thread. Each caller waits for its answer, so the queue stays short.
const COMMANDS: usize = 16;

/// A running broker. Dropping it stops it.
///
/// ```
/// use fluffle_broker::Broker;
///
/// let broker = Broker::start()?;
/// assert!(broker.url().starts_with("amqp://guest:guest@127.0.0.1:"));
/// assert!(broker.snapshot()?.queues.is_empty());
/// # Ok::<(), fluffle_broker::BrokerError>(())
/// ```
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    user: (String, String),
    vhost: String,
    commands: commands::Sender<Command>,
    faults: Faults,
    thread: Option<thread::JoinHandle<()>>,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1 with user guest, password guest and virtual host `/`.
    ///
    /// # Errors
    ///
    /// If no port or thread is available.
    pub fn start() -> Result<Self, BrokerError> {
        Self::builder().start()
    }

    /// Returns a builder, to start a broker with other settings.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// The AMQP URI to connect to: user, password, address and virtual host.
    pub fn url(&self) -> String {
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2f");
        format!("amqp://{}:{}@{}/{vhost}", self.user.0, self.user.1, self.address)
    }

    /// The port on which it listens. It stays the same after [`start_again`](Self::start_again).
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shuts down like RabbitMQ: closes the connections with 320 CONNECTION_FORCED, and closes the port. Durable queues
    /// and exchanges are kept for [`start_again`](Self::start_again), with the persistent messages in them; quorum
    /// queues keep all messages. Stopping a stopped broker does nothing.
    ///
    /// Blocks until the connections have ended, for 1 s at most.
    ///
    /// # Errors
    ///
    /// If the broker's thread has ended.
    pub fn stop(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Stop { polite: true, answer })
    }

    /// Ends like a crash: drops every socket without closing the connections. Keeps the same as [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// If the broker's thread has ended.
    pub fn kill(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Stop { polite: false, answer })
    }

    /// Listens again on the same port. Persistent messages that were delivered but not acknowledged are ready again,
    /// marked as redelivered. Starting a running broker does nothing.
    ///
    /// # Errors
    ///
    /// If another program has taken the port, or the broker's thread has ended.
    pub fn start_again(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Start { answer })?
    }

    /// Returns the current state.
    ///
    /// # Errors
    ///
    /// If the broker's thread has ended.
    pub fn snapshot(&self) -> Result<Snapshot, BrokerError> {
        self.ask(|answer| Command::Snapshot { answer })
    }

    /// Returns the ready messages of the queue of that name, in any virtual host, in delivery order. They stay in the
    /// queue. Messages that are delivered and unacked are not included.
    ///
    /// # Errors
    ///
    /// If there is no such queue, or the broker's thread has ended.
    pub fn messages(&self, queue: &str) -> Result<Vec<QueuedMessage>, BrokerError> {
        let found = self.ask(|answer| Command::Messages { queue: queue.to_owned(), answer })?;
        found.ok_or_else(|| BrokerError::NoQueue { queue: queue.to_owned() })
    }

    /// Waits until the broker is settled: no message is unacked, and no message is ready except those [at
    /// rest](crate::QueueSnapshot::at_rest), such as dead letters in a queue that nobody reads. Retries that wait for
    /// their time are not settled. The broker does not know of messages that a client has not published yet, so await
    /// the confirms first.
    ///
    /// Needs a tokio runtime with time. Dropping the future is harmless.
    ///
    /// # Errors
    ///
    /// If something is unsettled after `limit`; the error names the queues and their messages. If the broker's thread
    /// has ended.
    pub async fn settled(&self, limit: Duration) -> Result<(), BrokerError> {
        match self.until(limit, |state| state.unsettled().next().is_none()).await {
            Err(BrokerError::NotYet { state, .. }) => {
                let queues = state.unsettled().cloned().collect();
                Err(BrokerError::Unsettled { limit, queues })
            }
            other => other.map(|_| ()),
        }
    }

    /// Waits until `wished` accepts the state, checking every millisecond, and returns that state.
    ///
    /// Needs a tokio runtime with time. Dropping the future is harmless.
    ///
    /// # Errors
    ///
    /// If that does not happen within `limit`; the error contains the state at the end. If the broker's thread has
    /// ended.
    pub async fn until(&self, limit: Duration, wished: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, BrokerError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let state = self.snapshot()?;
            if wished(&state) {
                return Ok(state);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(BrokerError::NotYet { limit, state: Box::new(state) });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The faults of this broker.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn ask<T>(&self, command: impl FnOnce(mpsc::SyncSender<T>) -> Command) -> Result<T, BrokerError> {
        ask(&self.commands, command).ok_or(BrokerError::Gone)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.stop();
        let (closed, _) = commands::channel(1);
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Settings of a [`Broker`].
#[derive(Clone)]
pub struct BrokerBuilder {
    listen: SocketAddr,
    vhosts: Vec<String>,
    settings: Settings,
    limits: Limits,
    fault_seed: Option<u64>,
}

impl std::fmt::Debug for BrokerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerBuilder")
            .field("listen", &self.listen)
            .field("vhosts", &self.vhosts)
            .finish_non_exhaustive()
    }
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            vhosts: vec!["/".to_owned()],
            settings: Settings {
                users: vec![("guest".to_owned(), "guest".to_owned())],
                frame_max: 128 << 10,
                channel_max: 2047,
                heartbeat: 60,
                handshake_timeout: Duration::from_secs(10),
                most_connections: 10_000,
                memory_limit: 1 << 30,
            },
            limits: Limits { consumer_timeout: 1_800_000, message_bytes: 128 << 20 },
            fault_seed: None,
        }
    }
}

impl BrokerBuilder {
    /// The address to listen on. Default: a free port of 127.0.0.1.
    ///
    /// There is no TLS, and the password is public knowledge, so do not listen on an untrusted network.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Adds a virtual host besides `/`.
    pub fn vhost(mut self, name: impl Into<String>) -> Self {
        self.vhosts.push(name.into());
        self
    }

    /// Adds a user besides guest.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.users.push((name.into(), password.into()));
        self
    }

    /// The heartbeat interval proposed to clients, in whole seconds; zero turns heartbeats off.
    /// Default: 60 seconds.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = u16::try_from(interval.as_secs()).unwrap_or(u16::MAX);
        self
    }

    /// How long a client may take from its first byte to an open connection. Default: 10 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// How long a delivery may wait for its acknowledgement before its channel is closed with 406.
    /// Default: 30 minutes.
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.limits.consumer_timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The largest frame proposed to clients, in bytes; 4096 at least. Default: 131,072.
    pub fn frame_max(mut self, bytes: u32) -> Self {
        self.settings.frame_max = bytes.max(4096);
        self
    }

    /// The largest message body, in bytes; larger ones are refused with 406. Default: 134,217,728.
    pub fn message_max(mut self, bytes: u64) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// The most connections at a time; further ones are closed at once. Default: 10,000.
    pub fn connection_max(mut self, connections: usize) -> Self {
        self.settings.most_connections = connections;
        self
    }

    /// How many bytes messages may take, in queues and with consumers: body, properties and 256 bytes for each message.
    /// A message in several queues counts once. Above this limit, a connection that publishes gets
    /// `connection.blocked`, and is not read until a tenth of the limit is free again. Default: 1,073,741,824.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = bytes;
        self
    }

    /// The seed of all randomness in [faults](Broker::faults). Default: a different one each time.
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.fault_seed = Some(seed);
        self
    }

    /// Starts the broker on a thread of its own, and returns when it listens.
    ///
    /// # Errors
    ///
    /// If the broker cannot listen on the address, or no thread is available.
    pub fn start(self) -> Result<Broker, BrokerError> {
        let (commands, received) = commands::channel(COMMANDS);
        let (started, listening) = mpsc::sync_channel(1);
        let fault_seed = self.fault_seed.unwrap_or_else(|| fastrand::u64(..));
        let (faults, requests) = Faults::new(Place::Broker, fault_seed);
        let (address, settings, vhosts) = (self.listen, self.settings.clone(), self.vhosts.clone());
        let making = Making { address, vhosts, settings, limits: self.limits, fault_seed };
        let thread = thread::Builder::new()
            .name("fluffle-broker".to_owned())
            .spawn(move || run(making, received, requests, started))
            .map_err(BrokerError::Thread)?;
        let address = listening.recv().map_err(|_| BrokerError::Gone)??;
        let [user, ..] = &self.settings.users[..] else { return Err(BrokerError::Gone) };
        let vhost = self.vhosts.into_iter().next().unwrap_or_default();
        Ok(Broker { address, user: user.clone(), vhost, commands, faults, thread: Some(thread) })
    }
}
