//! SIGTERM and Ctrl-C.

use std::io;

use actix_rt::ArbiterHandle;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// The signals that end a service, in the order in which they arrive. A task on the service's `io` thread listens for
/// them, so the caller of [`next`](Self::next) needs no tokio runtime.
pub(crate) struct Signals(mpsc::Receiver<&'static str>);

impl Signals {
    /// Starts to listen, on `io`. From then on, neither signal ends the process by itself.
    pub(crate) async fn listen(io: &ArbiterHandle) -> io::Result<Self> {
        let (tell, signals) = mpsc::channel(2);
        let (listening, answer) = oneshot::channel();
        io.spawn(async move {
            let kinds =
                signal(SignalKind::interrupt()).and_then(|ctrl_c| Ok((ctrl_c, signal(SignalKind::terminate())?)));
            let (mut interrupt, mut terminate) = match kinds {
                Ok(kinds) => kinds,
                Err(error) => return drop(listening.send(Err(error))),
            };
            if listening.send(Ok(())).is_err() {
                return;
            }
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "Ctrl-C",
                    _ = terminate.recv() => "SIGTERM",
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
