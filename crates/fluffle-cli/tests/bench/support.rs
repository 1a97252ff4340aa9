//! Runs the program.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

/// The limit for one run. If a run takes longer, it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle"));
    command.arg("bench").args(arguments).env_remove("AMQP_URL").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command to its end, within the limit.
pub(crate) fn run(arguments: &[&str]) -> Output {
    finish(bench(arguments).spawn().unwrap())
}

pub(crate) fn finish(child: Child) -> Output {
    let pid = child.id().to_string();
    let (ended, waits) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hung = waits.recv_timeout(LIMIT).is_err_and(|error| error == mpsc::RecvTimeoutError::Timeout);
        if hung {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
        hung
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watchdog.join().unwrap(), "it hung: {}", text(&output.stderr));
    output
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report of a run with `--json`, and its exit code.
pub(crate) fn json(arguments: &[&str]) -> (Value, i32) {
    let output = run(&[arguments, &["--json"]].concat());
    answer(&output)
}

pub(crate) fn answer(output: &Output) -> (Value, i32) {
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|error| panic!("{error}: {}\n{}", text(&output.stdout), text(&output.stderr)));
    (json, output.status.code().unwrap())
}

/// Reads standard error until a line contains `words`. The rest is read and discarded.
pub(crate) fn wait_for(stderr: ChildStderr, words: &'static str) {
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stderr);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains(words) {
                let _ = said.send(());
                break;
            }
            line.clear();
        }
        let _ = lines.read_to_end(&mut Vec::new());
    });
    heard.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("nothing said {words:?}"));
}
