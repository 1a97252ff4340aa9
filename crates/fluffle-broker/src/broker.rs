//! The broker as its owner holds it.

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

/// Commands that wait for the broker's thread. Each caller waits for its answer: the queue is short.
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
    /// When no port can be had or no thread be started.
    pub fn start() -> Result<Self, BrokerError> {
        Self::builder().start()
    }

    /// A broker with other settings.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// What a client connects to: user, password, address and virtual host.
    pub fn url(&self) -> String {
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2f");
        format!("amqp://{}:{}@{}/{vhost}", self.user.0, self.user.1, self.address)
    }

    /// The port it listens on; the same after [`start_again`](Self::start_again).
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shuts down as RabbitMQ does: connections are closed with 320 CONNECTION_FORCED, the port closes.
    /// Durable queues and exchanges and the persistent messages in them stay for
    /// [`start_again`](Self::start_again); in quorum queues every message does. Stopping a stopped broker does nothing.
    ///
    /// Blocks until the connections have ended, for a second at most.
    ///
    /// # Errors
    ///
    /// When the broker's thread is gone.
    pub fn stop(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Stop { polite: true, answer })
    }

    /// Ends as a crash does: every socket is dropped without a word. What is durable stays, as with
    /// [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// When the broker's thread is gone.
    pub fn kill(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Stop { polite: false, answer })
    }

    /// Listens again on the same port. What was persistent and delivered but not acknowledged is ready
    /// again, marked as redelivered. Starting a running broker does nothing.
    ///
    /// # Errors
    ///
    /// When another program has taken the port, or the broker's thread is gone.
    pub fn start_again(&self) -> Result<(), BrokerError> {
        self.ask(|answer| Command::Start { answer })?
    }

    /// The state at this moment.
    ///
    /// # Errors
    ///
    /// When the broker's thread is gone.
    pub fn snapshot(&self) -> Result<Snapshot, BrokerError> {
        self.ask(|answer| Command::Snapshot { answer })
    }

    /// What is ready in the queue of that name, in any virtual host, in the order it would be delivered. Nothing is
    /// taken from it: what is delivered and unacked is not among it.
    ///
    /// # Errors
    ///
    /// When there is no such queue, or the broker's thread is gone.
    pub fn messages(&self, queue: &str) -> Result<Vec<QueuedMessage>, BrokerError> {
        let found = self.ask(|answer| Command::Messages { queue: queue.to_owned(), answer })?;
        found.ok_or_else(|| BrokerError::NoQueue { queue: queue.to_owned() })
    }

    /// Waits until all is settled: nothing is unacked, and nothing ready but what is [at
    /// rest](crate::QueueSnapshot::at_rest), such as the dead letters in a queue that nobody reads. Retries that wait for
    /// their time are not settled. What a client has not published yet the broker cannot know of: await the
    /// confirms first.
    ///
    /// Needs a tokio runtime with time. Dropping the future is harmless.
    ///
    /// # Errors
    ///
    /// When something is unsettled after `limit`; the error says what lies where. When the broker's thread is gone.
    pub async fn settled(&self, limit: Duration) -> Result<(), BrokerError> {
        match self.until(limit, |state| state.unsettled().next().is_none()).await {
            Err(BrokerError::NotYet { state, .. }) => {
                let queues = state.unsettled().cloned().collect();
                Err(BrokerError::Unsettled { limit, queues })
            }
            other => other.map(|_| ()),
        }
    }

    /// Waits until the state is as wished, looking every millisecond, and gives it.
    ///
    /// Needs a tokio runtime with time. Dropping the future is harmless.
    ///
    /// # Errors
    ///
    /// When it is not within `limit`; with the state as it is then. When the broker's thread is gone.
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

    /// What can be made to go wrong here.
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
    /// There is no TLS and everyone knows the password: think twice before listening to a network.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// One more virtual host beside `/`.
    pub fn vhost(mut self, name: impl Into<String>) -> Self {
        self.vhosts.push(name.into());
        self
    }

    /// One more user beside guest.
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

    /// The most connections at a time; what comes beyond is closed at once. Default: 10,000.
    pub fn connection_max(mut self, connections: usize) -> Self {
        self.settings.most_connections = connections;
        self
    }

    /// The bytes that messages may take in queues and with consumers, bodies, properties and 256 bytes each; one in many
    /// queues counts once. Past it, who publishes is told `connection.blocked` and not read until a tenth of it is
    /// free again. Default: 1,073,741,824.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = bytes;
        self
    }

    /// What all chance in [faults](Broker::faults) comes from. Default: another one each time.
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.fault_seed = Some(seed);
        self
    }

    /// Starts the broker on a thread of its own, and returns when it listens.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on or no thread be started.
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
