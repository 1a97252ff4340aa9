//! A private RabbitMQ node, owned by a [`RabbitMq`] value.

use std::{
    fmt, fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Builder, HarnessError, install::Installation, layout::Layout, process::Processes, remote, wait::poll_until,
};

const STOP_LIMIT: Duration = Duration::from_secs(60);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
const LOG_LINES: usize = 12;

/// A RabbitMQ node on loopback, with its own ports, data and account.
///
/// Dropping the value kills the node and removes its folder. If the owning process dies without dropping it, even by
/// SIGKILL, a watcher process does the same.
///
/// All calls block; in async code use `spawn_blocking`, or accept the pause. A call must not be cancelled half-way.
///
/// ```no_run
/// use fluffle_harness::RabbitMq;
///
/// let broker = RabbitMq::start()?;
/// println!("{}", broker.url()); // amqp://guest:guest@127.0.0.1:21504/%2f
/// broker.kill()?;               // like a power failure
/// broker.start_again()?;        // same ports, same data
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
pub struct RabbitMq {
    pub(crate) layout: Layout,
    pub(crate) installation: Installation,
    boot_limit: Duration,
    tenure: Tenure,
}

/// Whether this value may stop and start the node.
enum Tenure {
    /// The node belongs to this value alone. The processes are declared before the folder to which they write, so that
    /// they are dropped first.
    Owned { processes: Mutex<Processes>, _folder: TempDir },
    /// The node belongs to this process, which shares it as [`RabbitMq::shared`].
    Shared { _processes: Mutex<Processes>, _folder: TempDir },
    /// The node belongs to another process.
    Attached,
}

impl RabbitMq {
    /// Starts a node with default settings. See [`Builder::start`] for the errors and the time it takes.
    pub fn start() -> Result<Self, HarnessError> {
        Self::builder().start()
    }

    /// A builder, to configure the node before it starts.
    ///
    /// ```no_run
    /// # use fluffle_harness::RabbitMq;
    /// let broker = RabbitMq::builder()
    ///     .config("consumer_timeout = 2000")
    ///     .plugin("rabbitmq_auth_mechanism_ssl")
    ///     .start()?;
    /// # Ok::<(), fluffle_harness::HarnessError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A node that does not run yet: [`start_again`](Self::start_again) boots it. `arguments` are more arguments of its
    /// virtual machine.
    pub(crate) fn stopped(
        folder: TempDir,
        layout: Layout,
        installation: Installation,
        boot_limit: Duration,
        arguments: String,
    ) -> Result<Self, HarnessError> {
        let processes = Mutex::new(Processes::new(&layout, &installation, arguments)?);
        Ok(Self { layout, installation, boot_limit, tenure: Tenure::Owned { processes, _folder: folder } })
    }

    /// Attaches to another process's node by its folder.
    pub(crate) fn attach(folder: &Path) -> Result<Self, HarnessError> {
        let rabbit = Self {
            layout: Layout::load(folder)?,
            installation: Installation::find()?,
            boot_limit: Duration::ZERO,
            tenure: Tenure::Attached,
        };
        rabbit.wait_ready(PROBE_LIMIT)?;
        Ok(rabbit)
    }

    /// Gives up the right to stop the node.
    pub(crate) fn into_shared(self) -> Self {
        let tenure = match self.tenure {
            Tenure::Owned { processes, _folder } => Tenure::Shared { _processes: processes, _folder },
            other => other,
        };
        Self { tenure, ..self }
    }

    /// The URL of the default vhost for the user `guest`: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    #[must_use]
    pub fn url(&self) -> String {
        self.layout.url("/")
    }

    /// The TCP port for plain connections. It stays the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.layout.port
    }

    /// The TCP port for TLS connections, if the node was built with [`Builder::tls`].
    #[must_use]
    pub fn amqps_port(&self) -> Option<u16> {
        self.layout.amqps_port
    }

    /// The URL of the management API, without a user, if the node was built with [`Builder::management`]:
    /// `http://127.0.0.1:PORT`. The user is `guest`, with the password `guest`.
    #[must_use]
    pub fn api_url(&self) -> Option<String> {
        self.layout.management_port.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// The node's folder: configuration, data and logs. `FLUFFLE_KEEP_BROKER=1` keeps it for a post-mortem.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.layout.folder
    }

    /// The process id of the node's virtual machine, while it runs and belongs to this value alone.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.processes("pid").ok().and_then(|processes| processes.pid())
    }

    /// Shuts the node down as an operator would: connections are closed with 320 CONNECTION_FORCED, and data are kept.
    ///
    /// Does nothing if the node is already stopped. Takes about a second. After 60 s the node is killed, and the
    /// time-out is returned as an error.
    pub fn stop(&self) -> Result<(), HarnessError> {
        self.processes("stop")?.stop_node(STOP_LIMIT)
    }

    /// Kills the node with SIGKILL, as when the broker's process crashes: sockets close without notice, and messages
    /// that were not on disk are lost. Does nothing if the node is already stopped.
    ///
    /// Definitions (vhosts, queues, bindings) are flushed first, which takes milliseconds. The reason: RabbitMQ 3
    /// answers `declare-ok` up to two seconds before Mnesia writes its commit decision. A crash in between undoes the
    /// declaration, and the queue is lost with its confirmed messages. No client can influence that, and it would make
    /// every test that declares, publishes and kills fail now and then.
    pub fn kill(&self) -> Result<(), HarnessError> {
        let mut processes = self.processes("kill")?;
        // The result is ignored: a node that cannot flush (stopped, booting, without Mnesia) is killed all the same.
        let _ = remote::eval_within(&self.layout, FLUSH_LIMIT, "kill", "mnesia:sync_log(), <<>>");
        processes.kill_node();
        Ok(())
    }

    /// Starts a stopped or killed node on its old data and ports and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// [`HarnessError::AlreadyRunning`], or the errors of [`Builder::start`].
    pub fn start_again(&self) -> Result<(), HarnessError> {
        let mut processes = self.processes("start_again")?;
        if processes.is_running() {
            return Err(HarnessError::AlreadyRunning);
        }
        processes.start_node(&self.layout, &self.installation)?;
        let ready = poll_until(self.boot_limit, "the node's boot", || match processes.ended() {
            Some(status) => Err(self.boot_failed(format!("ended during boot with {status}"))),
            None => Ok(self.is_ready().then_some(())),
        });
        ready.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => self.boot_failed(format!("was not ready within {limit:?}")),
            other => other,
        })
    }

    /// [`stop`](Self::stop), then [`start_again`](Self::start_again).
    pub fn restart(&self) -> Result<(), HarnessError> {
        self.stop()?;
        self.start_again()
    }

    /// Waits until the node answers an AMQP handshake, for at most `limit`.
    ///
    /// Only needed if something else starts the node, because `start` and `start_again` wait themselves.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), HarnessError> {
        poll_until(limit, "the node's answer to an AMQP handshake", || Ok(self.is_ready().then_some(())))
    }

    /// Runs `rabbitmqctl` with these arguments against the node and returns what it printed to stdout.
    ///
    /// Slow: each call boots a virtual machine, which takes 0.4 s on two idle cores and more on busy ones. The named
    /// operations of this type (`queue_depths`, `close_all_connections`, ...) take a millisecond or two instead.
    ///
    /// ```no_run
    /// # let broker = fluffle_harness::RabbitMq::start()?;
    /// let policies = broker.ctl(&["list_policies", "--vhost", "/"])?;
    /// # Ok::<(), fluffle_harness::HarnessError>(())
    /// ```
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        remote::ctl(&self.layout, &self.installation, arguments)
    }

    /// Evaluates an Erlang expression, without its final dot, inside the node. Its value must be iodata.
    ///
    /// For operations of RabbitMQ for which this type has no method. Takes a millisecond or two.
    ///
    /// ```no_run
    /// # let broker = fluffle_harness::RabbitMq::start()?;
    /// assert_eq!(broker.eval("atom_to_binary(node())")?, "rabbit@localhost");
    /// # Ok::<(), fluffle_harness::HarnessError>(())
    /// ```
    pub fn eval(&self, expression: &str) -> Result<String, HarnessError> {
        remote::eval(&self.layout, "eval", expression)
    }

    fn processes(&self, operation: &'static str) -> Result<MutexGuard<'_, Processes>, HarnessError> {
        let broker = match &self.tenure {
            // A poisoned lock only means that another call panicked; the processes are still valid.
            Tenure::Owned { processes, .. } => {
                return Ok(processes.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Tenure::Shared { .. } => "this one is shared by all tests of the process",
            Tenure::Attached => "this one is shared by all test processes of the run",
        };
        Err(HarnessError::NeedsOwnBroker { operation, broker })
    }

    /// The control socket opens only when the boot is over and the listeners are up.
    fn is_ready(&self) -> bool {
        let listens = |port| TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT);
        self.eval("<<>>").is_ok()
            && answers_amqp(self.layout.port)
            && self.layout.management_port.is_none_or(|port| listens(port).is_ok())
    }

    fn boot_failed(&self, why: String) -> HarnessError {
        let (dir, log) = (self.layout.folder.clone(), telling_lines(&self.layout.console()));
        HarnessError::BootFailed { server: "RabbitMQ node", why, dir, log }
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq")
            .field("port", &self.layout.port)
            .field("folder", &self.layout.folder)
            .finish_non_exhaustive()
    }
}

/// Sends the protocol header and looks for the start of `connection.start` (AMQP 0-9-1, section 4.2.2).
fn answers_amqp(port: u16) -> bool {
    let probe = || -> std::io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, PROBE_LIMIT)?;
        stream.set_read_timeout(Some(PROBE_LIMIT))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut start = [0; 11];
        stream.read_exact(&mut start)?;
        // A method frame (1) on channel 0, then class 10 (connection), method 10 (start).
        Ok(start[..3] == [1, 0, 0] && start[7..] == [0, 10, 0, 10])
    };
    probe().unwrap_or(false)
}

/// The first lines from the first error on, and the last lines of the file. Pages of crash reports are between them.
fn telling_lines(file: &Path) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(LOG_LINES);
    let first = lines.iter().position(|line| line.contains("[error]")).unwrap_or(last).min(last);
    let head = lines.iter().take(last).skip(first).take(LOG_LINES);
    head.chain(&lines[last..]).copied().collect::<Vec<_>>().join("\n")
}
