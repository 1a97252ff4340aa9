//! The threads of a subcommand that speaks AMQP itself, and Ctrl-C.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::common::failure::Failure;

/// Runs the work on this thread, and lapin's on two others: while this thread waits for a terminal or a file,
/// heartbeats go on.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(work);
    // A thread that still reads standard input would be waited for.
    runtime.shutdown_background();
    result
}

/// Ctrl-C, and the signal that ends a process (SIGTERM).
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
