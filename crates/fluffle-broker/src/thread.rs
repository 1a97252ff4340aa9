//! The broker's own thread: a single-threaded runtime with all state on it.

use std::{net::SocketAddr, rc::Rc, sync::mpsc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
    sync::mpsc::Receiver,
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};

use crate::{
    engine::{Engine, Limits},
    error::BrokerError,
    message::QueuedMessage,
    protocol::{Settings, Shared, accept, keep_time},
    snapshot::Snapshot,
};

/// How long clients may take to answer the broker's goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted.
const WAITING: u32 = 1024;

/// What the owner asks.
pub(crate) enum Command {
    Stop { polite: bool, answer: mpsc::SyncSender<()> },
    Start { answer: mpsc::SyncSender<Result<(), BrokerError>> },
    Snapshot { answer: mpsc::SyncSender<Snapshot> },
    Messages { queue: String, answer: mpsc::SyncSender<Option<Vec<QueuedMessage>>> },
}

/// Runs a broker until its owner is gone.
pub(crate) fn run(
    address: SocketAddr,
    vhosts: Vec<String>,
    settings: Settings,
    limits: Limits,
    commands: Receiver<Command>,
    started: mpsc::SyncSender<Result<SocketAddr, BrokerError>>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(BrokerError::Thread(error)));
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        let (listener, address) = match listen(address) {
            Ok(listening) => listening,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let engine = Engine::new(vhosts.iter().map(String::as_str), limits);
        let shared = Rc::new(Shared::new(settings, engine));
        spawn_local(keep_time(shared.clone()));
        let accepting = spawn_local(accept(listener, shared.clone()));
        let _ = started.send(Ok(address));
        serve(address, shared, Some(accepting), commands).await;
    });
}

async fn serve(
    address: SocketAddr,
    shared: Rc<Shared>,
    mut accepting: Option<JoinHandle<()>>,
    mut commands: Receiver<Command>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Stop { polite, answer } => {
                if let Some(accepting) = accepting.take() {
                    accepting.abort();
                    // The port closes when the task is gone, not before.
                    let _ = accepting.await;
                    end_connections(&shared, polite).await;
                    shared.refresh_clock();
                    shared.engine.borrow_mut().restart();
                }
                let _ = answer.send(());
            }
            Command::Start { answer } => {
                let outcome = match accepting {
                    Some(_) => Ok(()),
                    None => listen(address).map(|(listener, _)| {
                        accepting = Some(spawn_local(accept(listener, shared.clone())));
                    }),
                };
                let _ = answer.send(outcome);
            }
            Command::Snapshot { answer } => {
                let _ = answer.send(shared.engine.borrow().snapshot());
            }
            Command::Messages { queue, answer } => {
                let _ = answer.send(shared.engine.borrow().messages(&queue));
            }
        }
    }
}

/// Ends every connection: with a word and a little time to answer it, or at once.
async fn end_connections(shared: &Shared, polite: bool) {
    let open = || shared.sockets.borrow().iter().filter_map(std::rc::Weak::upgrade).collect::<Vec<_>>();
    if polite {
        open().iter().for_each(|link| link.shut.notify_one());
        // The links are counted by their tasks alone: this waits for those.
        let _ = timeout(FAREWELL, async {
            while !open().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    open().iter().for_each(|link| link.cut.notify_one());
    while !open().is_empty() {
        tokio::task::yield_now().await;
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A stopped broker's port is in TIME_WAIT when it starts again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(WAITING)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().map_err(|source| BrokerError::Listen { address, source })
}
