//! The process that is killed, from within and from without.

use std::{
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::App;
use futures_util::future::join_all;

use crate::{
    args::ChildArgs,
    fact::{Fact, Facts},
    script::Script,
    workload::{self, MORTAL, MORTAL_CONSUMERS, Shift, Store},
};

/// How long it may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(30);

/// The child's whole life, until its standard input ends: with its parent, at the latest.
///
/// # Errors
/// When the service cannot start, or gives up.
pub async fn live(args: ChildArgs) -> Result<(), fluffle::Error> {
    let (script, name) = (Script::new(args.script), format!("c{}", args.life));
    let facts = Facts::open(&args.facts, &name)?;
    let app = App::new(workload::client(&args.url, &name)?).topology(workload::topology());
    let journal = |number| args.facts.with_file_name(format!("c{number}.journal"));
    let publishers = MORTAL
        .iter()
        .enumerate()
        .map(|(number, post)| post.publisher(&app, &journal(number)))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Arc::new(Store::default());
    let app = workload::consume(app, &MORTAL_CONSUMERS, &store, script, &facts)?;
    let service = app.start().await?;
    let shift = Shift {
        until: Instant::now() + Duration::from_millis(args.publish_for),
        messages: args.messages,
        pause: Duration::from_millis(args.pause),
    };
    let shifts = MORTAL.iter().zip(publishers).zip(sources(args.life));
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

/// The names of a life's publishers.
pub fn sources(life: u32) -> impl Iterator<Item = String> {
    (0..MORTAL.len()).map(move |post| format!("c{life}p{post}"))
}

/// The child as its parent holds it: one process after the other.
pub struct Mortal {
    executable: PathBuf,
    args: ChildArgs,
    until: Instant,
    facts: Facts,
    process: Child,
}

impl Mortal {
    /// Starts its first life; its publishers go on until `until`, in whichever life.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn start(executable: PathBuf, args: ChildArgs, until: Instant, facts: &Facts) -> io::Result<Self> {
        let process = spawn(&executable, &args, until)?;
        Ok(Self { executable, args, until, facts: facts.clone(), process })
    }

    /// Which life this is, from 1.
    pub fn life(&self) -> u32 {
        self.args.life
    }

    /// SIGKILL, and the next life.
    ///
    /// # Errors
    /// When it had ended by itself, or no process can be started.
    pub fn kill(&mut self) -> io::Result<()> {
        self.is_alive()?;
        self.facts.tell(&Fact::Fault(format!("SIGKILL of the child in its life {}", self.args.life)));
        self.process.kill()?;
        self.process.wait()?;
        self.args.life += 1;
        self.process = spawn(&self.executable, &self.args, self.until)?;
        Ok(())
    }

    /// # Errors
    /// When it has ended by itself: it never should.
    pub fn is_alive(&mut self) -> io::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(io::Error::other(format!("the child ended by itself in its life {}: {status}", self.args.life)))
            }
        }
    }

    /// Asks it to end, and waits for it.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub async fn end(mut self) -> io::Result<()> {
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

fn spawn(executable: &PathBuf, args: &ChildArgs, until: Instant) -> io::Result<Child> {
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    Command::new(executable)
        .arg("child")
        .args(["--url", &args.url])
        .arg("--facts")
        .arg(&args.facts)
        .args(["--script", &args.script.to_string()])
        .args(["--life", &args.life.to_string()])
        .args(["--publish-for", &left.to_string()])
        .args(["--messages", &args.messages.to_string()])
        .args(["--pause", &args.pause.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
}
