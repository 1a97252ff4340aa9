//! SIGTERM and Ctrl-C; on Windows, Ctrl-C and the shutdown of the system.

use std::io;

use actix_rt::ArbiterHandle;
use tokio::sync::{mpsc, oneshot};

#[cfg(unix)]
const TERMINATE: &str = "SIGTERM";
#[cfg(windows)]
const TERMINATE: &str = "the shutdown of the system";

#[cfg(unix)]
fn kinds() -> io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

#[cfg(windows)]
fn kinds() -> io::Result<(tokio::signal::windows::CtrlC, tokio::signal::windows::CtrlShutdown)> {
    Ok((tokio::signal::windows::ctrl_c()?, tokio::signal::windows::ctrl_shutdown()?))
}

/// The signals that end a service, in the order in which they arrive. A task on the service's `io` thread listens for
/// them, so the caller of [`next`](Self::next) needs no tokio runtime.
pub(crate) struct Signals(mpsc::Receiver<&'static str>);

impl Signals {
    /// Starts to listen, on `io`. From then on, neither signal ends the process by itself.
    pub(crate) async fn listen(io: &ArbiterHandle) -> io::Result<Self> {
        let (tell, signals) = mpsc::channel(2);
        let (listening, answer) = oneshot::channel();
        io.spawn(async move {
            let (mut interrupt, mut terminate) = match kinds() {
                Ok(kinds) => kinds,
                Err(error) => return drop(listening.send(Err(error))),
            };
            if listening.send(Ok(())).is_err() {
                return;
            }
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "Ctrl-C",
                    _ = terminate.recv() => TERMINATE,
                    () = tell.closed() => return,
                };
                // If the channel is full, two signals wait already; a third one would change nothing.
                let _ = tell.try_send(name);
            }
        });
        match answer.await {
            Ok(listening) => listening.map(|()| Self(signals)),
            Err(_) => Err(io::Error::other("the service has ended")),
        }
    }

    /// Waits for the next signal and returns its name. Never resolves if the service's threads have ended. Cancellation
    /// safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}
