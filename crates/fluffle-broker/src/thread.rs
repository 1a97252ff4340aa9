//! The broker's own thread: a single-threaded runtime with all state on it.

use std::{net::SocketAddr, rc::Rc, sync::mpsc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
    sync::mpsc::Receiver,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    engine::{Engine, Limits},
    error::BrokerError,
    fault::{self, Plan, Request},
    message::QueuedMessage,
    protocol::{Settings, Shared, accept, keep_alarm, keep_time},
    snapshot::Snapshot,
};

/// How long clients may take to answer `connection.close`.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted.
const WAITING: u32 = 1024;

/// A request of the broker's owner.
pub(crate) enum Command {
    Stop { polite: bool, answer: mpsc::SyncSender<()> },
    Start { answer: mpsc::SyncSender<Result<(), BrokerError>> },
    Snapshot { answer: mpsc::SyncSender<Snapshot> },
    Messages { queue: String, answer: mpsc::SyncSender<Option<Vec<QueuedMessage>>> },
}

/// What [`run`] needs to start a broker.
pub(crate) struct Making {
    pub(crate) address: SocketAddr,
    pub(crate) vhosts: Vec<String>,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) fault_seed: u64,
}

/// Runs a broker until its owner drops it.
pub(crate) fn run(
    making: Making,
    commands: Receiver<Command>,
    requests: Receiver<Request>,
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
        let (listener, address) = match listen(making.address) {
            Ok(listening) => listening,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let faults = Rc::new(Plan::new(making.fault_seed));
        let engine = Engine::new(making.vhosts.iter().map(String::as_str), making.limits, faults);
        let shared = Rc::new(Shared::new(making.settings, engine));
        spawn_local(keep_time(shared.clone()));
        spawn_local(keep_alarm(shared.clone()));
        let accepting = Some(spawn_local(accept(listener, shared.clone())));
        let _ = started.send(Ok(address));
        Running { address, shared, accepting, due: None }.serve(commands, requests).await;
    });
}

struct Running {
    address: SocketAddr,
    shared: Rc<Shared>,
    /// The accepting task, while the broker listens.
    accepting: Option<JoinHandle<()>>,
    /// If a fault has stopped the broker: when it must listen again.
    due: Option<Instant>,
}

impl Running {
    async fn serve(mut self, mut commands: Receiver<Command>, mut requests: Receiver<Request>) {
        let shared = self.shared.clone();
        loop {
            let due = self.due;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                Some(request) = requests.recv() => fault::serve(&*shared, request),
                () = shared.outage_due.notified() => self.go_away().await,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Err(error) = self.start() {
                        tracing::error!(%error, "restart after a fault failed: the broker stays stopped");
                    }
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Stop { polite, answer } => {
                self.stop(polite).await;
                let _ = answer.send(());
            }
            Command::Start { answer } => {
                let _ = answer.send(self.start());
            }
            Command::Snapshot { answer } => {
                let _ = answer.send(self.shared.engine.borrow().snapshot());
            }
            Command::Messages { queue, answer } => {
                let _ = answer.send(self.shared.engine.borrow().messages(&queue));
            }
        }
    }

    fn start(&mut self) -> Result<(), BrokerError> {
        self.due = None;
        if self.accepting.is_none() {
            let (listener, _) = listen(self.address)?;
            self.accepting = Some(spawn_local(accept(listener, self.shared.clone())));
        }
        Ok(())
    }

    async fn stop(&mut self, polite: bool) {
        self.due = None;
        let Some(accepting) = self.accepting.take() else { return };
        accepting.abort();
        // The port is closed only when the task has ended.
        let _ = accepting.await;
        end_connections(&self.shared, polite).await;
        self.shared.refresh_clock();
        self.shared.engine.borrow_mut().restart();
        self.shared.dispatch();
    }

    /// Stops the broker for a time, because of a fault. A broker that is already stopped stays stopped.
    async fn go_away(&mut self) {
        let Some(outage) = self.shared.outage.take().filter(|_| self.accepting.is_some()) else { return };
        self.stop(outage.polite).await;
        // Events at the end of the connections may have triggered the same fault again.
        self.shared.outage.set(None);
        self.due = Instant::now().checked_add(outage.away);
    }
}

/// Ends every connection: if `polite`, with `connection.close` and a little time to answer it; otherwise at once.
async fn end_connections(shared: &Shared, polite: bool) {
    let open = || shared.all_links();
    if polite {
        open().iter().for_each(|link| link.shut.notify_one());
        // Each link is held only by its tasks, so this waits for the tasks to end.
        let _ = timeout(FAREWELL, async {
            while !open().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    open().iter().for_each(|link| link.gate.cut());
    while !open().is_empty() {
        tokio::task::yield_now().await;
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // The port of a stopped broker may be in TIME_WAIT when it starts again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(WAITING)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().map_err(|source| BrokerError::Listen { address, source })
}
