//! The process that is killed, from within and from without.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::App;
use futures_util::future::join_all;

use crate::{
    args::ChildArgs,
    fact::{Fact, Facts, Room},
    handlers::Store,
    id::DEADLY,
    posts::{MORTAL, Shift},
    script::Script,
    stall,
    workload::{self, MORTAL_CONSUMERS},
};

/// How long it may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(30);

/// The child's whole life, until its standard input ends: with its parent, at the latest.
///
/// # Errors
/// When the service cannot start, or gives up.
pub async fn live(args: ChildArgs) -> Result<(), fluffle::Error> {
    let script = Script::new(args.script);
    let facts = Facts::inherited(&args.name)?;
    stall::watch(&facts)?;
    let app = App::new(workload::client(&args.url, &args.name)?).topology(workload::topology());
    let publishers = MORTAL
        .iter()
        .zip(journals(&args.journals))
        .map(|(post, journal)| post.publisher(&app, &journal))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Arc::new(Store::default());
    let app = workload::consume(app, &MORTAL_CONSUMERS, &store, script, &facts, args.name.starts_with(DEADLY))?;
    let service = app.start().await?;
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

/// The names of the publishers of the life that is called so.
pub fn sources(life: &str) -> impl Iterator<Item = String> {
    (0..MORTAL.len()).map(move |post| format!("{life}p{post}"))
}

/// Where each of its publishers has its journal, if it has one.
fn journals(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..MORTAL.len()).map(move |post| folder.join(format!("c{post}.journal")))
}

/// Whether a disk can be made full here: `prlimit` is Linux's.
pub const DISKS_FILL: bool = cfg!(target_os = "linux");

/// How [`std::process::abort`] ends a process.
const SIGABRT: i32 = 6;

/// What a full disk still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Nothing: the file system writes what is overwritten to another place.
    Copying,
    /// What a file has already may be overwritten.
    InPlace,
}

/// The child as its parent holds it: one process after the other, on one disk.
pub struct Mortal {
    executable: PathBuf,
    args: ChildArgs,
    life: u32,
    until: Instant,
    facts: Facts,
    /// The most bytes of a file, while the disk is full.
    most: Option<u64>,
    /// How often it was aborted; `None` while it should never be.
    aborts: Option<u32>,
    process: Child,
}

impl Mortal {
    /// Starts its first life; its publishers go on until `until`, in whichever life.
    ///
    /// # Errors
    /// When no process can be started, or there can be no journal.
    pub async fn start(
        executable: PathBuf,
        args: ChildArgs,
        until: Instant,
        facts: &Facts,
    ) -> Result<Self, fluffle::Error> {
        for (post, journal) in MORTAL.iter().zip(journals(&args.journals)) {
            // On a full disk none could be begun.
            if let Some(journal) = post.journal(&journal)? {
                journal.close().await.map_err(fluffle::Error::other)?;
            }
        }
        let process = spawn(&executable, &args, until, None, facts)?;
        Ok(Self { executable, args, life: 1, until, facts: facts.clone(), most: None, aborts: None, process })
    }

    fn spawn(&self) -> io::Result<Child> {
        spawn(&self.executable, &self.args, self.until, self.most, &self.facts)
    }

    /// What its life is called.
    pub fn life(&self) -> &str {
        &self.args.name
    }

    /// SIGKILL, and the next life.
    ///
    /// # Errors
    /// When it had ended by itself, or no process can be started.
    pub fn kill(&mut self) -> io::Result<()> {
        self.is_alive()?;
        self.facts.tell(&Fact::Killed(self.args.name.clone()));
        self.process.kill()?;
        self.process.wait()?;
        self.life += 1;
        self.args.name = format!("c{}", self.life);
        self.process = self.spawn()?;
        Ok(())
    }

    /// An orderly end, and a life under this name in which the publishers have this shift, on a disk that may be full.
    ///
    /// # Errors
    /// When it does not end in time or not well, or no process can be started.
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

    /// A life under this name that publishes nothing and is given what kills it, and after each death another.
    ///
    /// # Errors
    /// As of [`live_again`](Self::live_again).
    pub async fn be_poisoned(&mut self, name: String) -> io::Result<()> {
        let silent = Shift { until: Instant::now(), messages: 0, pause: Duration::ZERO };
        self.live_again(name, silent, None).await?;
        self.aborts = Some(0);
        Ok(())
    }

    /// How often what it was given has killed it.
    pub fn aborts(&self) -> u32 {
        self.aborts.unwrap_or_default()
    }

    /// From now on the disk on which its journals are is full.
    ///
    /// # Errors
    /// When the child has ended by itself, or `prlimit` is not there.
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

    /// From now on there is room again.
    ///
    /// # Errors
    /// As of [`fill_disk`](Self::fill_disk).
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

    /// Lives again if it was aborted and may be.
    ///
    /// # Errors
    /// When it has ended by itself otherwise: it never should.
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

    /// Asks it to end, and waits for it.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
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
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits to be told that its disk is as it should be. A write past the limit is to fail, and not to kill, and an abort is no
/// reason for a core dump.
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

/// The most bytes of a file this process may write, as a full disk would have it: a real limit, of the system's.
fn limit_files(process: &Child, most: Option<u64>) -> io::Result<()> {
    let soft = most.map_or("unlimited".to_owned(), |most| most.to_string());
    let mut command = Command::new("prlimit");
    let status = command.args(["--pid", &process.id().to_string(), &format!("--fsize={soft}:")]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("prlimit: {status}"))) }
}
