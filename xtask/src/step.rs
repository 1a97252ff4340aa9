//! A chore is a row of steps, each announced, run and timed.

use std::{
    env, fmt,
    process::Command,
    time::{Duration, Instant},
};

use fluffle_harness::HarnessError;

/// Why a chore ended early, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<HarnessError> for Failure {
    fn from(error: HarnessError) -> Self {
        Self(error.to_string())
    }
}

/// The cargo that runs us, so that a toolchain chosen with `cargo +name` stays chosen.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Announces a step, runs the command with our own terminal, and says how long it took.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<(), Failure> {
    timed(what, || {
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.status().map_err(|error| Failure(format!("cannot start {program}: {error}")))?;
        if status.success() { Ok(()) } else { Err(Failure(format!("{what}: {program} ended with {status}"))) }
    })
}

/// Announces a step, does it, and says how long it took.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    eprintln!("==> {what}");
    let begin = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "failed" };
    eprintln!("    {outcome} after {}", clock(begin.elapsed()));
    result
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f32())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}
