//! Waits, each with a limit.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::HarnessError;

/// How often a condition that sends no event is checked.
const POLL: Duration = Duration::from_millis(10);

/// Calls `look` until it returns a value, for at most `limit`.
pub(crate) fn poll_until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, HarnessError>,
) -> Result<T, HarnessError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(HarnessError::Timeout { what: what.to_owned(), limit });
        }
        thread::sleep(POLL);
    }
}

/// Waits for a child to end, for at most `limit`.
pub(crate) fn exit_within(child: &mut Child, limit: Duration, what: &str) -> Result<ExitStatus, HarnessError> {
    poll_until(limit, what, || child.try_wait().map_err(HarnessError::io(format!("wait for {what}"))))
}

/// Runs a command to its end and collects its output. If it takes longer than `limit`, it is killed.
pub(crate) fn output_within(command: &mut Command, limit: Duration, what: &str) -> Result<Output, HarnessError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(HarnessError::io(format!("start {what}")))?;
    // Both pipes are drained meanwhile, because a child that fills one would never end.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = exit_within(&mut child, limit, what).inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })?;
    Ok(Output { status, stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default() })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
