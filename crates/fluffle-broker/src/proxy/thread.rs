//! The proxy's own thread: accepts, and carries out faults.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    sync::mpsc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc::Receiver, oneshot},
    task::{LocalSet, spawn_local},
};

use super::pipe;
use crate::{
    error::BrokerError,
    fault::{self, Chosen, Event, Fault, Gate, Hit, Plan, Request, Scene, Site, Target},
};

/// The most connections at a time.
const MOST: usize = 1000;

/// How long to wait after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a proxy until its owner drops it.
pub(super) fn run(
    upstream: SocketAddr,
    seed: u64,
    mut requests: Receiver<Request>,
    mut ended: oneshot::Receiver<()>,
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
        let listener = match listen().await {
            Ok((listener, address)) => {
                let _ = started.send(Ok(address));
                listener
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let house = House { plan: Rc::new(Plan::new(seed)), gates: RefCell::default() };
        loop {
            tokio::select! {
                _ = &mut ended => return,
                Some(request) = requests.recv() => fault::serve(&house, request),
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => house.admit(client, upstream),
                    // The process is out of descriptors, or the client has already gone; the next accept may succeed.
                    Err(error) => {
                        tracing::warn!(%error, "the proxy cannot accept a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    });
}

async fn listen() -> Result<(TcpListener, SocketAddr), BrokerError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let open = async || -> io::Result<_> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().await.map_err(|source| BrokerError::Listen { address, source })
}

/// The state that all connections share.
struct House {
    plan: Rc<Plan>,
    /// The gates of the current connections, the oldest first.
    gates: RefCell<Vec<Weak<Gate>>>,
}

impl House {
    fn admit(&self, client: TcpStream, upstream: SocketAddr) {
        let gate = Rc::new(Gate::new(self.plan.clone()));
        let mut gates = self.gates.borrow_mut();
        gates.retain(|gate| gate.strong_count() > 0);
        if gates.len() >= MOST {
            tracing::warn!("connection refused: the proxy's limit of connections is reached");
            return;
        }
        let hits = self.plan.ask(Event::Accepted, &Scene::of("", ""));
        if hits.iter().any(|hit| hit.fault == Fault::Refuse) {
            return;
        }
        hits.iter().for_each(|hit| gate.strike(hit));
        gates.push(Rc::downgrade(&gate));
        spawn_local(async move { pipe::serve(client, upstream, &gate).await });
    }

    fn gates(&self) -> Vec<Rc<Gate>> {
        self.gates.borrow().iter().filter_map(Weak::upgrade).collect()
    }
}

impl Site for House {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn strike(&self, hit: &Hit, target: &Target) {
        let most = match target.0 {
            Chosen::First(count) => count,
            _ => usize::MAX,
        };
        for gate in self.gates().iter().take(most) {
            self.plan.record(hit, "");
            gate.strike(hit);
        }
    }

    fn heal(&self, id: Option<u64>) {
        self.gates().iter().for_each(|gate| gate.heal(id));
    }
}
