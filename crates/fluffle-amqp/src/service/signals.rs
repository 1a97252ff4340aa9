//! SIGTERM and Ctrl-C.

use std::io;

use actix_rt::ArbiterHandle;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// The signals that end a service, as they come. They are listened for on a thread of the service, so that whoever
/// waits for them needs no runtime.
pub(crate) struct Signals(mpsc::Receiver<&'static str>);

impl Signals {
    /// Listens from now on, on `io`. From then on neither signal ends the process by itself.
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
                // With two waiting a third adds nothing.
                let _ = tell.try_send(name);
            }
        });
        match answer.await {
            Ok(listening) => listening.map(|()| Self(signals)),
            Err(_) => Err(io::Error::other("the service has ended")),
        }
    }

    /// Waits for the next one and gives its name; for ever, if the service's threads are gone. Cancellation safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}
