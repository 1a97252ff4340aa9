//! A command consists of steps. Each step is announced, run and timed.

use std::{
    env, fmt,
    os::unix::process::CommandExt,
    process::Command,
    time::{Duration, Instant},
};

use fluffle_harness::HarnessError;

/// Why a command ended early, as text for the user.
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

/// The cargo that runs this program, so that a toolchain chosen with `cargo +name` is kept.
///
/// Cargo passes variables about this program's package to it. Some build scripts, such as ring's, depend on such
/// variables. If they were passed on, half the dependencies would be rebuilt whenever a step follows a plain `cargo
/// test`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

/// Announces a step, runs the command in our terminal, and prints how long it took.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<(), Failure> {
    timed(what, || {
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.status().map_err(|error| Failure(format!("cannot start {program}: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure(format!("{what} failed ({status})")))
    })
}

/// Announces the last step and replaces this process by its command. Ctrl-C then only reaches the command, and the
/// shell waits until it has finished. Returns only if the command cannot be started.
pub(crate) fn become_it(what: &str, command: &mut Command) -> Failure {
    eprintln!("==> {what}");
    let error = command.exec();
    Failure(format!("cannot start {}: {error}", command.get_program().to_string_lossy()))
}

/// Announces a step, runs it, and prints how long it took.
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
