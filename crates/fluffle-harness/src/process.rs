//! The processes of one node, and the watcher that outlives their owner.
//!
//! ```text
//! owner (a test, an example, xtask)
//! ├─ watcher  sh: blocks on a pipe from the owner; when the pipe closes (the owner died), it kills the group
//! ├─ epmd     in the watcher's process group; the node's name server, on a port of its own
//! └─ beam     in the watcher's process group; RabbitMQ itself, stopped, killed and started again by the owner
//! ```

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    HarnessError,
    install::{Account, Installation, run_as},
    keep_folder,
    layout::Layout,
    remote,
    wait::{exit_within, poll_until},
};

const EPMD_LIMIT: Duration = Duration::from_secs(10);
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// A shell script. It waits for the end of the pipe, then ends its own process group from a process outside of it, and
/// removes the folder unless it is to be kept. It tries to remove the folder up to ten times, because a killed process
/// may still be finishing a write. Erlang's own helpers (they resolve names and measure the disk) end when the virtual
/// machine closes their pipes.
const WATCH: &str = r#"read -r _; exec setsid sh -c '
kill -s "$4" -- "-$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$3" = keep ] || rm -rf "$2" 2>/dev/null && break
    sleep 0.1
done
' watcher $$ "$1" "$2" "$3""#;

/// Few schedulers, not bound to cores, because private nodes share the machine with the tests that use them. The node's
/// name is given here, not left to RabbitMQ, so that RabbitMQ neither boots a second virtual machine to start a shared
/// epmd nor listens beyond loopback.
const ERLANG_ARGUMENTS: &str =
    "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbt u +A 2 +SDio 2";

/// The processes of one node.
#[derive(Debug)]
pub(crate) struct Processes {
    watcher: Child,
    epmd: Child,
    beam: Option<Child>,
    /// More arguments of the node's virtual machine. They override [`ERLANG_ARGUMENTS`].
    arguments: String,
}

impl Processes {
    /// Starts the watcher and epmd. [`Processes::start_node`] starts the node itself.
    pub(crate) fn new(layout: &Layout, installation: &Installation, arguments: String) -> Result<Self, HarnessError> {
        let mut watcher = start_watcher(&layout.folder, installation.account, "KILL")?;
        match start_epmd(layout, installation, &watcher) {
            Ok(epmd) => Ok(Self { watcher, epmd, beam: None, arguments }),
            Err(error) => {
                end(&mut watcher);
                Err(error)
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.beam.as_mut().is_some_and(|beam| matches!(beam.try_wait(), Ok(None)))
    }

    /// The node's process id, for tests that inspect the process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.beam.as_ref().map(Child::id)
    }

    /// Starts the node without waiting until it is ready.
    pub(crate) fn start_node(&mut self, layout: &Layout, installation: &Installation) -> Result<(), HarnessError> {
        // A killed node leaves its socket file, which would keep the next one from listening.
        let _ = fs::remove_file(layout.control_socket());
        let console = File::create(layout.console()).map_err(HarnessError::io("create the console log"))?;
        let errors = console.try_clone().map_err(HarnessError::io("share the console log"))?;
        let arguments = format!("-sname {} {ERLANG_ARGUMENTS} {}", layout.name, self.arguments);
        let mut command = Command::new(&installation.server);
        command
            .env_clear()
            .envs(layout.environment())
            // With "input allowed", the script becomes the node instead of waiting for it. Our child is then the node
            // itself, so that a SIGKILL hits the right process. `-noinput` disables the input again.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .env("RABBITMQ_SERVER_START_ARGS", "-noinput +B i")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments)
            .args(["-eval", &remote::listener_expression(&layout.control_socket())])
            .current_dir(&layout.folder)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .process_group(group(&self.watcher));
        run_as(&mut command, installation.account);
        self.beam = Some(command.spawn().map_err(HarnessError::io("start rabbitmq-server"))?);
        Ok(())
    }

    /// The node's exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let beam = self.beam.as_mut()?;
        beam.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Asks the node to shut down and waits. After `limit` it is killed, and the time-out is returned as an error.
    pub(crate) fn stop_node(&mut self, limit: Duration) -> Result<(), HarnessError> {
        let Some(beam) = &mut self.beam else {
            return Ok(());
        };
        signal(beam, "TERM");
        let stopped = exit_within(beam, limit, "the node's shutdown");
        if stopped.is_err() {
            end(beam);
        }
        self.beam = None;
        stopped.map(|_| ())
    }

    /// Kills the node with SIGKILL at once.
    pub(crate) fn kill_node(&mut self) {
        if let Some(mut beam) = self.beam.take() {
            end(&mut beam);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // The watcher ends last, so that it still cleans up if this process dies in here.
        self.kill_node();
        end(&mut self.epmd);
        end(&mut self.watcher);
    }
}

/// Starts a process that outlives this one, ends its own process group with `signal`, and removes the folder.
pub(crate) fn start_watcher(folder: &Path, account: Option<Account>, signal: &str) -> Result<Child, HarnessError> {
    let fate = if keep_folder() { "keep" } else { "remove" };
    let mut command = Command::new("sh");
    command
        .args(["-c", WATCH, "watcher"])
        .arg(folder)
        .args([fate, signal])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    run_as(&mut command, account);
    command.spawn().map_err(HarnessError::io("start the node's watcher"))
}

fn start_epmd(layout: &Layout, installation: &Installation, watcher: &Child) -> Result<Child, HarnessError> {
    let mut command = Command::new(&installation.epmd);
    command
        .env_clear()
        .envs(layout.environment())
        .args(["-address", "127.0.0.1", "-port", &layout.epmd_port.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(group(watcher));
    run_as(&mut command, installation.account);
    let mut epmd = command.spawn().map_err(HarnessError::io("start epmd"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, layout.epmd_port));
    let listening = poll_until(EPMD_LIMIT, "epmd's start", || {
        if let Ok(Some(status)) = epmd.try_wait() {
            let why = format!("has no epmd: it ended with {status}");
            let (dir, log) = (layout.folder.clone(), String::new());
            return Err(HarnessError::BootFailed { server: "RabbitMQ node", why, dir, log });
        }
        Ok(TcpStream::connect_timeout(&address, EPMD_LIMIT).ok())
    });
    match listening {
        Ok(_) => Ok(epmd),
        Err(error) => {
            end(&mut epmd);
            Err(error)
        }
    }
}

/// Sends a signal with the shell's `kill`, because std can only send SIGKILL.
pub(crate) fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$1\" \"$2\"", "signal", name, &child.id().to_string()]);
    let _ = kill.stderr(Stdio::null()).status();
}

pub(crate) fn group(watcher: &Child) -> i32 {
    // Always fits, because Linux limits process ids to 2^22.
    i32::try_from(watcher.id()).unwrap_or(0)
}

/// Whether no process has this folder in its command line. A process that has ended and is not waited for has none.
pub(crate) fn has_ended_in(folder: &Path) -> bool {
    let Some(folder) = folder.to_str() else { return true };
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let lines = processes.filter_map(|process| fs::read(process.ok()?.path().join("cmdline")).ok());
    !lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(folder))
}

/// Kills the child with SIGKILL and waits for its end.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = exit_within(child, EXIT_LIMIT, "a killed process");
}
