//! A private PostgreSQL server, owned by a [`Postgres`] value.

use std::{
    env, fmt,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    HarnessError,
    builder::give,
    install::{Account, SYSTEM_PATH, account_of, is_root, path_folders, run_as},
    keep_folder,
    ports::free_port,
    process::{end, group, signal, start_watcher},
    wait::{exit_within, output_within, poll_until},
};

/// The variable that names the folder of `initdb` and `postgres`. It is tried before all known places.
const BIN_VAR: &str = "FLUFFLE_POSTGRES_BIN";

/// Where Debian installs the programs, with one folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// PostgreSQL refuses to run as root. Its package creates the first of these accounts; the second exists on every
/// system.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

const INITDB_LIMIT: Duration = Duration::from_secs(90);
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Another process may take a port between the check and the server's bind.
const PORT_ATTEMPTS: u32 = 3;

const LOG_LINES: usize = 12;

/// A PostgreSQL server on loopback, with its own port and data. Its superuser `postgres` needs no password.
///
/// Dropping the value kills the server and removes its folder. If the owning process dies without dropping it, a
/// watcher process does the same. The server does not wait for the disk (`fsync = off`): committed data survive a crash
/// of the server, but not of the machine.
///
/// All calls block; in async code use `spawn_blocking`, or accept the pause.
///
/// ```no_run
/// use fluffle_harness::Postgres;
///
/// let postgres = Postgres::start()?;
/// println!("{}", postgres.url()); // postgres://postgres@127.0.0.1:21504/postgres
/// postgres.kill()?;               // connections are lost, committed data are not
/// postgres.start_again()?;        // same port, same data
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
pub struct Postgres {
    programs: PathBuf,
    account: Option<Account>,
    port: u16,
    // Declared before the folder to which its processes write, so that it is dropped first.
    server: Mutex<Server>,
    folder: TempDir,
}

/// The server's process, and the watcher that outlives its owner. The server's own children are in other process
/// groups; they end when the server ends.
struct Server {
    watcher: Child,
    postmaster: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.shut("QUIT");
        end(&mut self.watcher);
    }
}

impl Server {
    /// Sends the signal `name` to the server and waits for its end. After the limit the server is killed, and the
    /// time-out is returned as an error.
    fn shut(&mut self, name: &str) -> Result<(), HarnessError> {
        let Some(mut postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        signal(&postmaster, name);
        let ended = exit_within(&mut postmaster, STOP_LIMIT, "the server's end");
        if ended.is_err() {
            end(&mut postmaster);
        }
        ended.map(|_| ())
    }
}

impl Postgres {
    /// Whether a server can be started on this machine. Starts nothing.
    #[must_use]
    pub fn is_installed() -> bool {
        programs().is_ok()
    }

    /// Makes a cluster and starts a server on it. Returns when the server takes connections, after 1 to 2 s on two
    /// cores.
    ///
    /// If this process is root, the server runs under the account `postgres`, or `nobody` if there is no such account;
    /// otherwise as this user.
    ///
    /// # Errors
    /// [`HarnessError::NoPostgres`], [`HarnessError::BootFailed`] with the end of the server's log.
    pub fn start() -> Result<Self, HarnessError> {
        let programs = programs()?;
        let account = if is_root() { ACCOUNTS.into_iter().find_map(account_of) } else { None };
        let mut folder = tempfile::Builder::new()
            .prefix("fluffle-postgres-")
            .tempdir()
            .map_err(HarnessError::io("make a folder for the server"))?;
        folder.disable_cleanup(keep_folder());
        if let Some(account) = account {
            give(folder.path(), account).map_err(HarnessError::io("give the server's folder to its account"))?;
        }
        initdb(&programs, folder.path(), account)?;
        let watcher = start_watcher(folder.path(), account, "QUIT")?;
        let server = Mutex::new(Server { watcher, postmaster: None });
        let mut postgres = Self { programs, account, port: free_port()?, server, folder };
        for _ in 1..PORT_ATTEMPTS {
            match postgres.start_again() {
                Err(HarnessError::BootFailed { log, .. }) if log.contains("Address already in use") => {
                    postgres.port = free_port()?;
                }
                other => return other.map(|()| postgres),
            }
        }
        postgres.start_again().map(|()| postgres)
    }

    /// The URL of the database `postgres` for the user `postgres`: `postgres://postgres@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The TCP port. It stays the same when the server is started again.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's folder: data, log and Unix socket. `FLUFFLE_KEEP_BROKER=1` keeps it for a post-mortem.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server().postmaster.as_ref().map(Child::id)
    }

    /// Shuts the server down as an operator would ("fast"): transactions are rolled back, connections are closed. Does
    /// nothing if the server is already stopped.
    ///
    /// # Errors
    /// If it takes longer than 60 s. The server is then killed.
    pub fn stop(&self) -> Result<(), HarnessError> {
        self.server().shut("INT")
    }

    /// Ends the server like a crash ("immediate shutdown"): nothing more is written, open transactions are lost, and
    /// the next start recovers from the log. Does nothing if the server is already stopped.
    ///
    /// # Errors
    /// If it takes longer than 60 s. The server is then killed.
    pub fn kill(&self) -> Result<(), HarnessError> {
        self.server().shut("QUIT")
    }

    /// Starts a stopped or killed server on its old data and port, and waits until it takes connections.
    ///
    /// # Errors
    /// [`HarnessError::AlreadyRunning`], or the errors of [`start`](Self::start).
    pub fn start_again(&self) -> Result<(), HarnessError> {
        let mut server = self.server();
        if server.postmaster.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None))) {
            return Err(HarnessError::AlreadyRunning);
        }
        let mut postmaster = self.spawn(group(&server.watcher))?;
        let ready = poll_until(BOOT_LIMIT, "the server's boot", || match postmaster.try_wait() {
            Ok(Some(status)) => Err(self.boot_failed(format!("ended during boot with {status}"))),
            _ => Ok(self.is_ready().then_some(())),
        });
        server.postmaster = Some(postmaster);
        ready.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => self.boot_failed(format!("was not ready within {limit:?}")),
            other => other,
        })
    }

    fn spawn(&self, group: i32) -> Result<Child, HarnessError> {
        let log = File::create(self.log()).map_err(HarnessError::io("create the server's log"))?;
        let errors = log.try_clone().map_err(HarnessError::io("share the server's log"))?;
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.folder().join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"])
            .arg(self.folder())
            // Small and fast, because the server serves one test and its data need not survive the machine.
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(group);
        command.spawn().map_err(HarnessError::io("start postgres"))
    }

    fn is_ready(&self) -> bool {
        let mut probe = self.program("pg_isready");
        probe.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", "2"]);
        output_within(&mut probe, Duration::from_secs(5), "pg_isready").is_ok_and(|output| output.status.success())
    }

    fn program(&self, name: &str) -> Command {
        program(&self.programs, name, self.folder(), self.account)
    }

    fn log(&self) -> PathBuf {
        self.folder().join("log.txt")
    }

    fn boot_failed(&self, why: String) -> HarnessError {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        HarnessError::BootFailed { server: "PostgreSQL server", why, dir: self.folder().to_path_buf(), log }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        // A poisoned lock only means that another call panicked; the processes are still valid.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).field("folder", &self.folder()).finish_non_exhaustive()
    }
}

/// The folder with the programs. If several versions are installed, the newest.
fn programs() -> Result<PathBuf, HarnessError> {
    let named = env::var_os(BIN_VAR).map(PathBuf::from);
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|folder| Some((folder.file_name()?.to_str()?.parse().ok()?, folder.join("bin"))))
        .collect();
    versions.sort_unstable();
    let packaged = versions.into_iter().rev().map(|(_, folder)| folder);
    let has_all =
        |folder: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).is_file());
    let found = named.into_iter().chain(packaged).chain(path_folders()).find(has_all);
    found.ok_or(HarnessError::NoPostgres { program: "initdb" })
}

/// A command in the server's folder, under its account. The environment is cleared, so that a `PG*` variable of the
/// caller cannot direct it to other data.
fn program(programs: &Path, name: &str, folder: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C").current_dir(folder);
    run_as(&mut command, account);
    command
}

fn initdb(programs: &Path, folder: &Path, account: Option<Account>) -> Result<(), HarnessError> {
    let mut command = program(programs, "initdb", folder, account);
    command.arg("-D").arg(folder.join("data"));
    command.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    let output = output_within(command.stdin(Stdio::null()), INITDB_LIMIT, "initdb")?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::BootFailed {
        server: "PostgreSQL server",
        why: format!("has no data: initdb ended with {}", output.status),
        dir: folder.to_path_buf(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
