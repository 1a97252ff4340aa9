//! A terminal in memory, in which a shell runs the program.

use std::{
    io::{Read, Write},
    num::NonZeroU16,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use vt100::Parser;

use crate::support::LIMIT;

/// Its child is killed if the test ends before it.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    seen: Arc<Mutex<Parser>>,
    _master: Box<dyn MasterPty + Send>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    /// Runs `fluffle top` with these arguments; when it has ended, shows its exit code and the terminal's settings.
    pub(crate) fn top(columns: u16, arguments: &[&str]) -> Self {
        let size = PtySize { rows: 24, cols: columns, ..PtySize::default() };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut shell = CommandBuilder::new("sh");
        shell.args(["-c", "\"$@\"; echo \"code=$?\"; stty -a", "sh", env!("CARGO_BIN_EXE_fluffle"), "top"]);
        shell.args(arguments);
        shell.env("TERM", "xterm-256color");
        for variable in ["AMQP_URL", "RABBITMQ_API", "NO_COLOR", "RUST_LOG"] {
            shell.env_remove(variable);
        }
        let child = pty.slave.spawn_command(shell).unwrap();
        let number = |number: u16| NonZeroU16::new(number).unwrap();
        let seen = Arc::new(Mutex::new(Parser::new(number(24), number(columns), 0)));
        let mut output = pty.master.try_clone_reader().unwrap();
        let parser = Arc::clone(&seen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..read]);
            }
        });
        Self { child, keys: pty.master.take_writer().unwrap(), seen, _master: pty.master }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub(crate) fn contents(&self) -> String {
        self.seen.lock().unwrap().screen().contents()
    }

    /// Waits until this is on the screen.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let screen = self.contents();
            if is_so(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "never `{what}`:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the end, and sees that the terminal is as it was.
    pub(crate) fn expect_sane_end(&self) {
        self.wait_until("the end with code 0 and lines and echo as before", |screen| {
            let words: Vec<_> = screen.split_whitespace().collect();
            ["code=0", "icanon", "isig", "echo"].iter().all(|word| words.contains(word))
        });
        let seen = self.seen.lock().unwrap();
        assert!(!seen.screen().alternate_screen() && !seen.screen().hide_cursor());
    }

    pub(crate) fn is_on_other_screen(&self) -> bool {
        self.seen.lock().unwrap().screen().alternate_screen()
    }

    /// The id of the program's process: the shell's only child.
    pub(crate) fn program(&self) -> String {
        let shell = self.child.process_id().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        children.trim().to_owned()
    }
}
