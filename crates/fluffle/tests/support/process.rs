//! For tests with two parts: the service, in a process of its own, and the user, who sends signals to it and checks its
//! exit code.
use std::{
    env,
    future::Future,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitCode, Stdio, Termination},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

const PART: &str = "FLUFFLE_TEST_PART";

/// How long the service may take for a step, including a cold start on a busy machine.
pub const SECONDS: Duration = Duration::from_secs(15);

/// Whether the service logs to stderr, at `info`.
#[derive(Clone, Copy, PartialEq)]
pub enum Log {
    On,
    Off,
}

/// The name of the test function that contains this macro call, as its binary lists it. For [`service`].
///
/// It is taken from the function itself, so a test can be moved or renamed.
macro_rules! this_test {
    () => {{
        fn here() {}
        $crate::support::process::test_of(std::any::type_name_of_val(&here))
    }};
}
pub(crate) use this_test;

/// `settling::a_test` of `it::settling::a_test::here`.
pub fn test_of(here: &'static str) -> &'static str {
    let (_, in_binary) = here.split_once("::").expect("a path below its binary");
    let function = in_binary.strip_suffix("::here").expect("`here` itself");
    function.trim_end_matches("::{{closure}}")
}

/// In the test's own process, returns the program that runs `service` in another process. In that other process, runs
/// `service` as `fn main` would and ends the process.
///
/// `test` is [`this_test!`] of the calling test function. The other process runs only that test, and never returns from
/// this call.
pub fn service<F, E>(test: &str, log: Log, service: impl FnOnce() -> F) -> Program
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Debug,
{
    if env::var(PART).as_deref() != Ok(test) {
        return Program { test: test.to_owned(), variables: Vec::new() };
    }
    if log == Log::On {
        tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    }
    let ended = actix::System::new().block_on(service()).report();
    std::process::exit(if ended == ExitCode::SUCCESS { 0 } else { 1 })
}

pub struct Program {
    test: String,
    variables: Vec<(String, String)>,
}

impl Program {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn start(self) -> Process {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([&self.test, "--exact", "--nocapture"])
            .env(PART, &self.test)
            .envs(self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (lines, stderr) = (Arc::clone(&said), BufReader::new(child.stderr.take().unwrap()));
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                lines.0.lock().unwrap().push(line.unwrap());
                lines.1.notify_all();
            }
        });
        Process { child, said, reader: Some(reader) }
    }
}

/// The process of a running service.
pub struct Process {
    child: Child,
    said: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line on stderr contains all of `words`, and returns the first that does.
    pub fn line(&self, words: &[&str], limit: Duration) -> String {
        let fits = |line: &String| words.iter().all(|word| line.contains(word));
        let lines = self.said.0.lock().unwrap();
        let (lines, _) = self.said.1.wait_timeout_while(lines, limit, |lines| !lines.iter().any(fits)).unwrap();
        lines
            .iter()
            .find(|line| fits(line))
            .unwrap_or_else(|| panic!("no {words:?} within {limit:?} in {lines:#?}"))
            .clone()
    }

    /// Waits until the process has died or a line on stderr contains `word`. Returns whether it died, and all lines so
    /// far.
    pub fn died_or_said(&mut self, word: &str, limit: Duration) -> (bool, Vec<String>) {
        let deadline = Instant::now() + limit;
        loop {
            let died = self.child.try_wait().unwrap().is_some();
            if died && let Some(reader) = self.reader.take() {
                reader.join().unwrap();
            }
            let lines = self.said.0.lock().unwrap().clone();
            if died || lines.iter().any(|line| line.contains(word)) {
                return (died, lines);
            }
            assert!(Instant::now() < deadline, "runs on after {limit:?}: {lines:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the process has ended.
    pub fn has_died(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// All lines on stderr so far.
    pub fn lines(&self) -> Vec<String> {
        self.said.0.lock().unwrap().clone()
    }

    /// How many lines contain `word`.
    pub fn count(&self, word: &str) -> usize {
        self.said.0.lock().unwrap().iter().filter(|line| line.contains(word)).count()
    }

    /// `kill -s NAME`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Writes a line to its stdin.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for the end of the process. Returns its exit code and all lines on stderr.
    pub fn ended(mut self, limit: Duration) -> (i32, Vec<String>) {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still runs after {limit:?}: {:#?}", self.said.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.reader.take().unwrap().join().unwrap();
        let lines = std::mem::take(&mut *self.said.0.lock().unwrap());
        (status.code().expect("an exit code, not a signal"), lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
