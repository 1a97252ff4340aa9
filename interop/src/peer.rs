//! A peer: a program in another language that does what the lines on its standard input say.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a message may take to arrive. A peer's own waits are as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long the broker may take to set something up, or to confirm. Long, because a loaded machine's disk stalls.
pub(crate) const BROKER: Duration = Duration::from_secs(40);
/// How long a peer may take for one command.
const COMMAND: Duration = Duration::from_secs(20);
/// How long a peer may take for all vectors. Long, because some are of 16 MiB, and a loaded machine is slow.
const VECTORS: Duration = Duration::from_secs(180);
/// How long a peer may take to end after its standard input has ended.
const END: Duration = Duration::from_secs(5);

/// Where the peers' programs and the vectors are.
pub(crate) struct Place {
    pub(crate) programs: PathBuf,
    pub(crate) vectors: PathBuf,
    /// How long this side waits for a message.
    pub(crate) patience: Duration,
}

impl Place {
    fn command(&self, peer: &str, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(peer).join(program));
        command.kill_on_drop(true);
        command
    }

    /// Runs a peer's test of the vectors. Its last line begins with `ok`.
    pub(crate) async fn test_vectors(&self, peer: &str) -> Result<(), String> {
        let mut command = self.command(peer, "vectors");
        let output = timeout(VECTORS, command.arg(&self.vectors).stdin(Stdio::null()).output()).await;
        let output = output.map_err(|_| format!("killed after {VECTORS:?}"))?.map_err(|e| format!("no start: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        if output.status.success() && last.starts_with("ok ") {
            return Ok(());
        }
        Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

/// A running peer. Dropping it kills the program.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a peer on a broker.
    pub(crate) fn start(place: &Place, peer: &str, url: &str) -> Result<Self, String> {
        let mut command = place.command(peer, "peer");
        command.arg(url).arg(&place.vectors).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start the peer: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the peer has no standard input or output".into());
        };
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// Sends a command and returns what the peer says after `ok`. After a time-out the peer is dead.
    pub(crate) async fn run(&mut self, command: &str) -> Result<String, String> {
        match timeout(COMMAND, self.exchange(command)).await {
            Ok(answer) => answer.map_err(|why| format!("`{command}`: {why}")),
            Err(_) => {
                let _ = self.child.start_kill();
                Err(format!("`{command}`: no answer within {COMMAND:?}, so the peer was killed"))
            }
        }
    }

    async fn exchange(&mut self, command: &str) -> Result<String, String> {
        let line = format!("{command}\n");
        self.input.write_all(line.as_bytes()).await.map_err(|error| format!("the peer has ended: {error}"))?;
        let answer = self.output.next_line().await.map_err(|error| format!("unreadable answer: {error}"))?;
        let answer = answer.ok_or("the peer has ended without an answer")?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(answer),
        }
    }

    /// Ends the peer's standard input, and waits for the program's end.
    pub(crate) async fn end(self) -> Result<(), String> {
        let Self { mut child, input, output } = self;
        drop((input, output));
        match timeout(END, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the peer ended with {status}")),
            Ok(Err(error)) => Err(format!("cannot wait for the peer: {error}")),
            Err(_) => Err(format!("the peer did not end within {END:?} after its input, so it was killed")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    /// A folder with a peer `sh` that is these two shell scripts.
    pub(crate) fn place(vectors: &str, peer: &str, patience: Duration) -> (TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sh")).unwrap();
        for (name, script) in [("vectors", vectors), ("peer", peer)] {
            let program = folder.path().join("sh").join(name);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let vectors = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors"));
        let place = Place { programs: folder.path().to_owned(), vectors, patience };
        (folder, place)
    }

    /// The clock stands still and jumps to the next deadline, so the test does not wait.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_is_killed() {
        let (_folder, place) = place("exec sleep 600", "exec sleep 600", PATIENCE);
        let mut peer = Peer::start(&place, "sh", "amqp://nowhere").unwrap();
        let why = peer.run("send a 1").await.unwrap_err();
        assert!(why.contains("`send a 1`") && why.contains("killed"), "{why}");
        tokio::time::resume();
        let ended = timeout(END, peer.child.wait()).await.expect("the peer lives");
        assert!(ended.unwrap().code().is_none(), "ended by itself");
        tokio::time::pause();
        let why = place.test_vectors("sh").await.unwrap_err();
        assert!(why.contains("killed after 180s"), "{why}");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_say_ok_has_failed() {
        let (_folder, place) = place("echo good; exit 0", "read line; echo \"failed: $line\"; exit 3", PATIENCE);
        let why = place.test_vectors("sh").await.unwrap_err();
        assert!(why.contains("good"), "{why}");
        let mut peer = Peer::start(&place, "sh", "amqp://nowhere").unwrap();
        let why = peer.run("ask a").await.unwrap_err();
        assert_eq!(why, "`ask a`: failed: ask a");
        let why = peer.run("ask b").await.unwrap_err();
        assert!(why.contains("has ended"), "{why}");
        let why = peer.end().await.unwrap_err();
        assert!(why.contains("exit status: 3"), "{why}");
    }
}
