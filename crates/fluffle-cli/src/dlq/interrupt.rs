//! Ctrl-C and SIGTERM, which end a command in order: what is in hand is finished, the rest is put back.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::common::failure::Failure;

/// The signals, from when this value was made.
pub(crate) struct Interrupt {
    signals: [Signal; 2],
    came: bool,
}

impl Interrupt {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { signals: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?], came: false })
    }

    /// Whether one has come.
    pub(crate) fn came(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        self.came = self.came || self.signals.iter_mut().any(|signal| signal.poll_recv(&mut context).is_ready());
        self.came
    }

    /// Waits until one comes. Cancellation safe.
    pub(crate) async fn wait(&mut self) {
        if self.came {
            return;
        }
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        self.came = true;
    }
}
