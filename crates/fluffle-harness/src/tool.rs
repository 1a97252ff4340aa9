//! A server of one process that needs a port, a folder and no account of its own.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    HarnessError, http,
    install::{SYSTEM_PATH, path_folders},
    keep_folder,
    ports::free_port,
    process::{end, group, has_ended_in, signal, start_watcher},
    wait::{exit_within, poll_until},
};

const BOOT_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Another process may take a port between the check and the server's bind.
const PORT_ATTEMPTS: u32 = 3;

const LOG_LINES: usize = 12;

/// What the servers differ in.
#[derive(Debug)]
pub(crate) struct Kind {
    /// In errors, for example `Prometheus server`.
    pub(crate) server: &'static str,
    pub(crate) program: &'static str,
    /// The Debian package that has the program.
    pub(crate) package: &'static str,
    /// A path that is answered with 200 when the server is ready.
    pub(crate) ready: &'static str,
    /// The arguments for a port and a folder.
    pub(crate) arguments: fn(u16, &Path) -> Vec<String>,
}

/// A running server. Dropping it ends the process and removes its folder; if the owning process dies without dropping
/// it, a watcher process does the same.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    // Ends after the server, so that it still cleans up if this process dies meanwhile, and before the folder is
    // removed.
    watcher: Child,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // A signal that a server can handle, because chromedriver then ends its browsers.
        signal(&self.process, "TERM");
        if exit_within(&mut self.process, STOP_LIMIT, "the server's end").is_err() {
            end(&mut self.process);
        }
        end(&mut self.watcher);
        // A browser ends a moment after its driver. Until then it would write its profile anew after the removal of the
        // folder. An error means that it does not end in time; then its files stay.
        let browsers = || Ok(has_ended_in(self.folder.path()).then_some(()));
        let _ = poll_until(STOP_LIMIT, "the end of what the server has started", browsers);
    }
}

impl Server {
    /// Starts a server whose folder has these files, and returns when it answers.
    pub(crate) fn start(kind: &Kind, files: &[(&str, &str)]) -> Result<Self, HarnessError> {
        let mut attempt = 1;
        loop {
            match Self::start_once(kind, files) {
                Err(HarnessError::BootFailed { log, .. })
                    if attempt < PORT_ATTEMPTS && log.to_lowercase().contains("address already in use") =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn start_once(kind: &Kind, files: &[(&str, &str)]) -> Result<Self, HarnessError> {
        let program = find(kind.program, kind.package)?;
        let mut folder = tempfile::Builder::new()
            .prefix(&format!("fluffle-{}-", kind.program))
            .tempdir()
            .map_err(HarnessError::io("make a folder for the server"))?;
        folder.disable_cleanup(keep_folder());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).map_err(HarnessError::io(format!("write {name}")))?;
        }
        let log = File::create(folder.path().join("log.txt")).map_err(HarnessError::io("create the server's log"))?;
        let errors = log.try_clone().map_err(HarnessError::io("share the server's log"))?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .args((kind.arguments)(port, folder.path()))
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let mut watcher = start_watcher(folder.path(), None, "KILL")?;
        let process = match command.process_group(group(&watcher)).spawn() {
            Ok(process) => process,
            Err(error) => {
                end(&mut watcher);
                return Err(HarnessError::io(format!("start {}", kind.program))(error));
            }
        };
        let mut server = Self { port, process, watcher, folder };
        let ready = poll_until(BOOT_LIMIT, "the server's boot", || match server.process.try_wait() {
            Ok(Some(status)) => Err(server.boot_failed(kind, format!("ended during boot with {status}"))),
            _ => Ok(http::answers(port, kind.ready).then_some(())),
        });
        match ready {
            Ok(_) => Ok(server),
            Err(HarnessError::Timeout { limit, .. }) => {
                Err(server.boot_failed(kind, format!("was not ready within {limit:?}")))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn boot_failed(&self, kind: &Kind, why: String) -> HarnessError {
        let text = fs::read_to_string(self.folder().join("log.txt")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        HarnessError::BootFailed { server: kind.server, why, dir: self.folder().to_path_buf(), log }
    }
}

/// The path of a program in `PATH` or in the system's folders.
pub(crate) fn find(program: &'static str, package: &'static str) -> Result<PathBuf, HarnessError> {
    let found = path_folders().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or(HarnessError::NoProgram { program, package })
}
