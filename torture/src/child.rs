//! The process that is killed: its own code, and its parent's handle.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{App, prelude::Offsets};
use futures_util::future::join_all;

use crate::{
    args::ChildArgs,
    fact::{Fact, Facts, Room},
    handlers::Store,
    id::{CALM, DEADLY},
    posts::{MORTAL, Shift},
    script::Script,
    stall,
    workload::{self, MORTAL_CONSUMERS},
};

/// How long it may take to end on request.
const FAREWELL: Duration = Duration::from_secs(30);

/// Runs the child until its standard input ends, which happens when its parent ends, at the latest.
///
/// # Errors
/// If the service cannot start, or gives up.
pub async fn live(args: ChildArgs) -> Result<(), fluffle::Error> {
    let script = Script::new(args.script);
    let facts = Facts::inherited(&args.name)?;
    stall::watch(&facts)?;
    let app = App::new(workload::client(&args.url, &args.name)?).topology(workload::topology());
    let publishers = MORTAL
        .iter()
        .zip(journals(&args.journals))
        .enumerate()
        .map(|(number, (post, journal))| post.publisher(&app, &format!("c{number}"), script, &journal))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Arc::new(Store::default());
    // None of its consumers reads the stream.
    let offsets = Offsets::in_memory().map_err(fluffle::Error::other)?;
    let deadly = args.name.starts_with(DEADLY);
    let app = workload::consume(app, &MORTAL_CONSUMERS, &store, &offsets, script, &facts, deadly)?;
    let service = app.start().await?;
    if args.name.starts_with(CALM) {
        // To declare everything on a cluster may take longer than the shortest deadline.
        service.ready().await?;
    }
    let shift = Shift {
        until: Instant::now() + Duration::from_millis(args.publish_for),
        messages: args.messages,
        pause: Duration::from_millis(args.pause),
    };
    let shifts = MORTAL.iter().zip(publishers).zip(sources(&args.name));
    actix::spawn(join_all(
        shifts.map(|((post, out), source)| post.run(out, source, script, facts.clone(), shift)).collect::<Vec<_>>(),
    ));
    let orphaned = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    tokio::select! {
        ended = service.wait() => ended?,
        _ = orphaned => {}
    }
    service.shutdown().await?;
    Ok(())
}

/// The names of the publishers in the life with this name.
pub fn sources(life: &str) -> impl Iterator<Item = String> {
    (0..MORTAL.len()).map(move |post| format!("{life}p{post}"))
}

/// The path of each publisher's journal, used or not.
fn journals(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..MORTAL.len()).map(move |post| folder.join(format!("c{post}.journal")))
}

/// Whether a disk can be made full here: `prlimit` exists only on Linux.
pub const DISKS_FILL: bool = cfg!(target_os = "linux");

/// The signal with which [`std::process::abort`] ends a process.
const SIGABRT: i32 = 6;

/// Which writes a full disk still accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// None: the file system writes changed data to another place.
    Copying,
    /// Existing data of a file may be overwritten.
    InPlace,
}

/// The parent's handle for the child: one process after the other, on one disk.
pub struct Mortal {
    executable: PathBuf,
    args: ChildArgs,
    /// The first letter of its lives' names during the storm.
    letter: char,
    life: u32,
    until: Instant,
    facts: Facts,
    /// While the disk is full: the largest size of a file, in bytes.
    most: Option<u64>,
    /// How often the child was aborted; `None` while it must not be.
    aborts: Option<u32>,
    process: Child,
}

impl Mortal {
    /// Starts the first life. Its publishers go on until `until`, over all lives.
    ///
    /// # Errors
    /// If no process can be started, or a journal cannot be created.
    pub async fn start(args: ChildArgs, until: Instant, facts: &Facts) -> Result<Self, fluffle::Error> {
        let executable = std::env::current_exe()?;
        for (post, journal) in MORTAL.iter().zip(journals(&args.journals)) {
            // Create the journals now, because a full disk would not allow it.
            if let Some(journal) = post.journal(&journal)? {
                journal.close().await.map_err(fluffle::Error::other)?;
            }
        }
        let process = spawn(&executable, &args, until, None, facts)?;
        let letter = args.name.chars().next().unwrap_or('c');
        Ok(Self { executable, args, letter, life: 1, until, facts: facts.clone(), most: None, aborts: None, process })
    }

    fn spawn(&self) -> io::Result<Child> {
        spawn(&self.executable, &self.args, self.until, self.most, &self.facts)
    }

    /// The name of the current life.
    pub fn life(&self) -> &str {
        &self.args.name
    }

    /// Kills the process with SIGKILL, and starts the next life.
    ///
    /// # Errors
    /// If the process had ended by itself, or no process can be started.
    pub fn kill(&mut self) -> io::Result<()> {
        self.is_alive()?;
        self.facts.tell(&Fact::Killed(self.args.name.clone()));
        self.process.kill()?;
        self.process.wait()?;
        self.life += 1;
        self.args.name = format!("{}{}", self.letter, self.life);
        self.process = self.spawn()?;
        Ok(())
    }

    /// Ends the process in order, and starts a life with this name in which the publishers have this shift, on a disk
    /// that may be full.
    ///
    /// # Errors
    /// If the process does not end in time or fails, or no process can be started.
    pub async fn live_again(&mut self, name: String, shift: Shift, full: Option<Full>) -> io::Result<()> {
        self.end().await?;
        self.until = shift.until;
        self.args.messages = shift.messages;
        self.args.pause = shift.pause.as_millis() as u64;
        self.args.name = name;
        if let Some(full) = full {
            self.facts.tell(&Fact::Disk(Room::None));
            self.most = Some(self.most_while(full));
        }
        self.process = self.spawn()?;
        Ok(())
    }

    /// Starts a life with this name that publishes nothing, and receives messages that kill it. After each death,
    /// starts another.
    ///
    /// # Errors
    /// Those of [`live_again`](Self::live_again).
    pub async fn be_poisoned(&mut self, name: String) -> io::Result<()> {
        let silent = Shift { until: Instant::now(), messages: 0, pause: Duration::ZERO };
        self.live_again(name, silent, None).await?;
        self.aborts = Some(0);
        Ok(())
    }

    /// How often a message has killed the child.
    pub fn aborts(&self) -> u32 {
        self.aborts.unwrap_or_default()
    }

    /// Makes the disk with its journals full from now on.
    ///
    /// # Errors
    /// If the child has ended by itself, or `prlimit` is missing.
    pub fn fill_disk(&mut self, full: Full) -> io::Result<()> {
        self.is_alive()?;
        let most = self.most_while(full);
        self.facts.tell(&Fact::Disk(Room::None));
        limit_files(&self.process, Some(most))?;
        self.most = Some(most);
        Ok(())
    }

    fn most_while(&self, full: Full) -> u64 {
        let written =
            |journal: PathBuf| fs::metadata(journal.with_extension("journal-wal")).map_or(0, |file| file.len());
        match full {
            Full::Copying => 0,
            Full::InPlace => journals(&self.args.journals).map(written).max().unwrap_or_default(),
        }
    }

    /// Makes room on the disk from now on.
    ///
    /// # Errors
    /// Those of [`fill_disk`](Self::fill_disk).
    pub fn make_room(&mut self) -> io::Result<()> {
        self.is_alive()?;
        limit_files(&self.process, None)?;
        self.facts.tell(&Fact::Disk(Room::Some));
        self.most = None;
        Ok(())
    }

    /// Whether its disk is full.
    pub fn is_full(&self) -> bool {
        self.most.is_some()
    }

    /// Starts a new life if the child was aborted and may be.
    ///
    /// # Errors
    /// If it has ended by itself in another way, which must not happen.
    pub fn is_alive(&mut self) -> io::Result<()> {
        match (self.process.try_wait()?, &mut self.aborts) {
            (None, _) => Ok(()),
            (Some(status), Some(aborts)) if status.signal() == Some(SIGABRT) => {
                *aborts += 1;
                self.facts.tell(&Fact::Killed(self.args.name.clone()));
                self.process = self.spawn()?;
                Ok(())
            }
            (Some(status), _) => {
                Err(io::Error::other(format!("the child ended by itself in its life {}: {status}", self.args.name)))
            }
        }
    }

    /// Asks the child to end, and waits for it.
    ///
    /// # Errors
    /// If it does not end in time, or fails.
    pub async fn end(&mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return if status.success() { Ok(()) } else { Err(io::Error::other(format!("the child: {status}"))) };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(io::Error::other(format!("the child did not shut down within {FAREWELL:?}")))
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for a line that says that its disk is set up. A write past the limit must fail instead of killing the process,
/// and an abort must write no core dump.
const SHELL: &str = r#"trap "" XFSZ; ulimit -c 0; read -r go; exec "$@""#;

fn spawn(executable: &Path, args: &ChildArgs, until: Instant, most: Option<u64>, facts: &Facts) -> io::Result<Child> {
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    let mut child = Command::new("sh")
        .args(["-c", SHELL, "sh"])
        .arg(executable)
        .arg("child")
        .args(["--url", &args.url])
        .arg("--journals")
        .arg(&args.journals)
        .args(["--script", &args.script.to_string()])
        .args(["--name", &args.name])
        .args(["--publish-for", &left.to_string()])
        .args(["--messages", &args.messages.to_string()])
        .args(["--pause", &args.pause.to_string()])
        .stdin(Stdio::piped())
        .stdout(facts.for_a_child()?)
        .spawn()?;
    if most.is_some() {
        limit_files(&child, most)?;
    }
    if let Some(stdin) = &mut child.stdin {
        stdin.write_all(b"go\n")?;
    }
    Ok(child)
}

/// Limits the size of files that this process may write, like a full disk. The operating system enforces the limit.
fn limit_files(process: &Child, most: Option<u64>) -> io::Result<()> {
    let soft = most.map_or("unlimited".to_owned(), |most| most.to_string());
    let mut command = Command::new("prlimit");
    let status = command.args(["--pid", &process.id().to_string(), &format!("--fsize={soft}:")]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("prlimit: {status}"))) }
}
