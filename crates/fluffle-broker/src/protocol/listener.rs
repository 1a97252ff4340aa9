//! Accepts connections.

use std::rc::Rc;

use tokio::{net::TcpListener, task::spawn_local};

use super::{connection, link::Link, shared::Shared};
use crate::fault::Event;

/// Accepts connections until the task is ended. Beyond the limit, a connection is closed at once.
pub(crate) async fn accept(listener: TcpListener, shared: Rc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let link = Rc::new(Link::new(shared.faults.clone()));
                {
                    let mut sockets = shared.sockets.borrow_mut();
                    sockets.retain(|socket| socket.strong_count() > 0);
                    if sockets.len() >= shared.settings.most_connections {
                        tracing::warn!(%peer, "connection refused: the limit of connections is reached");
                        continue;
                    }
                    sockets.push(Rc::downgrade(&link));
                }
                let refused = link.ask(Event::Accepted, 0);
                shared.carry_out_faults();
                if refused {
                    continue;
                }
                spawn_local(connection::serve(socket, link, shared.clone()));
            }
            // The process is out of descriptors, or the client has already gone; the next accept may succeed.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
