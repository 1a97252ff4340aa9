//! Shared by tests of examples with an HTTP server: a service in its own process, and an HTTP client.
#![allow(dead_code, unreachable_pub)]

use std::{
    io::{BufRead, BufReader, Read, Write, pipe},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// The longest that a single wait may take, such as a boot of RabbitMQ on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. It is killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    /// The output on stdout and stderr that was read so far.
    pub said: String,
}

impl Program {
    pub fn start(path: &str, variables: &[(&str, &str)]) -> Self {
        let (reader, writer) = pipe().unwrap();
        let mut command = Command::new(path);
        command.env_remove("AMQP_URL").env_remove("RUST_LOG").envs(variables.iter().copied());
        let command = command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        let (tell, lines) = channel();
        thread::spawn(move || {
            BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Self { child, lines, said: String::new() }
    }

    /// Waits until it prints a line that contains `words`.
    pub fn line(&mut self, words: &str) -> String {
        self.hear(|line| line.contains(words)).unwrap_or_else(|| panic!("ended without {words:?}:\n{}", self.said))
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end. Returns its exit code and all its output.
    pub fn ended(mut self) -> (Option<i32>, String) {
        assert_eq!(self.hear(|_| false), None);
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.said))
    }

    fn hear(&mut self, fits: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said += &format!("{line}\n");
                    if fits(&line) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("nothing more within {PATIENCE:?}:\n{}", self.said),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request, such as `GET /ready`, with a JSON body or "". Returns the status, and everything after the status
/// line. An answer must come within 10 s.
pub fn http(address: &str, request: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let headers =
        format!("Host: shop\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    write!(stream, "{request} HTTP/1.1\r\n{headers}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (status, rest) = answer.strip_prefix("HTTP/1.1 ").unwrap().split_once(' ').unwrap();
    (status.parse().unwrap(), rest.to_owned())
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
