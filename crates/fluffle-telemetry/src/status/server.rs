//! The status server: a thread of its own, so that it answers while the service's threads are blocked.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    status::{
        connection::{Ending, serve},
        error::StatusError,
        guard::Guard,
        places::Places,
        routes::StatusRoutes,
        settings::Status,
    },
    telemetry::{Shot, Telemetry},
};

/// The most connections at a time.
const CONNECTIONS: u32 = 128;

/// How long answers that are under way may take when the server ends.
const END: Duration = Duration::from_secs(1);

/// The kernel's buffer for what one connection is sent. The kernel's own choice grows to megabytes, all of them old
/// pictures.
const SEND_BUFFER: usize = 128 * 1024;

/// How soon a connection is accepted after one could not be, for example because the process has no file left.
const AGAIN: Duration = Duration::from_millis(100);

/// A running status server. Dropped, it ends: it takes no more connections, ends the streams, finishes the answers that
/// are under way, and frees its port. That takes as long as these answers, and at most about a second.
#[derive(Debug)]
pub struct StatusServer {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StatusServer {
    /// Where it listens; with the port that it got, if port 0 was wished.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        drop(self.end.take());
        // A thread that panicked has ended too.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Telemetry {
    /// Serves the status page, `/metrics`, `/live` and `/ready` until the returned value is dropped. Before
    /// [`attach`](Telemetry::attach), the probes say that the service is not started. `App::status` does this for you.
    ///
    /// | limit | |
    /// |---|---|
    /// | connections | 128; more are answered with 503 |
    /// | readers of the page, one for all tabs of a browser | 32; more are answered with 503 |
    /// | actions at a time | 4 |
    /// | head and body of a request | 16 KiB and 64 headers; 4 KiB; 5 s for each |
    /// | a reader who takes nothing, a connection without a request | 5 s, then it is closed |
    ///
    /// ```
    /// use fluffle_telemetry::Telemetry;
    ///
    /// let server = Telemetry::new().serve("127.0.0.1:0")?;
    /// println!("the status page: http://{}/", server.address());
    /// # Ok::<(), fluffle_telemetry::status::StatusError>(())
    /// ```
    ///
    /// # Errors
    /// [`StatusError`], which says what to do.
    pub fn serve(&self, status: impl Into<Status>) -> Result<StatusServer, StatusError> {
        let (end, ended) = oneshot::channel();
        // Resolves when the sender is dropped.
        let (address, thread) = self.start(status.into(), async { drop(ended.await) })?;
        Ok(StatusServer { address, end: Some(end), thread: Some(thread) })
    }

    /// [`serve`](Self::serve), until the service has ended. The log says where.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn serve_until_the_end(&self, status: impl Into<Status>) -> Result<SocketAddr, StatusError> {
        let mut shots = self.shots();
        let ended = async move {
            let is_over = |shot: &Option<Arc<Shot>>| shot.as_ref().is_some_and(|shot| shot.is_of_the_end());
            // An error means that the telemetry is gone.
            drop(shots.wait_for(is_over).await);
        };
        let (address, _) = self.start(status.into(), ended)?;
        tracing::info!("the status page of this service: http://{address}/");
        Ok(address)
    }

    /// The routes of [`serve`](Self::serve) without the server, for an HTTP server of the application's own. The
    /// address in `status` must be the one that the application's server listens on, because it says who can connect.
    /// Limits on connections, on the size of requests and on time are up to that server.
    ///
    /// # Errors
    /// [`StatusError`], which says what to do.
    pub fn routes(&self, status: impl Into<Status>) -> Result<StatusRoutes, StatusError> {
        let status = status.into();
        let address = status.check()?;
        self.routes_at(status, address)
    }

    fn routes_at(&self, status: Status, address: SocketAddr) -> Result<StatusRoutes, StatusError> {
        self.allow(&status.actions);
        let Status { token, hosts, actions, open_metrics, .. } = status;
        Ok(StatusRoutes::new(self.clone(), Guard::new(address, token, hosts)?, actions, open_metrics))
    }

    fn start(
        &self,
        status: Status,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(SocketAddr, JoinHandle<()>), StatusError> {
        let wished = status.check()?;
        let bind = |error| StatusError::Bind { address: wished, error };
        let listener = listen(wished).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let routes = Arc::new(self.routes_at(status, address)?);
        let (tell, told) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("status".to_owned());
        let thread = thread.spawn(move || run(listener, &routes, ended, &tell)).map_err(StatusError::Thread)?;
        // The sender is dropped only after it was used, or if the thread panicked.
        let started = told.recv().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        started.map_err(StatusError::Thread)?;
        Ok((address, thread))
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted service gets its port although connections of the last one linger. On Windows, it would take a port
    // away from another program.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The server's thread. The runtime is made here and not by the caller, because a runtime must not be dropped by a task
/// of another one, and the caller is such a task if this fails.
fn run(
    listener: std::net::TcpListener,
    routes: &Arc<StatusRoutes>,
    ended: impl Future<Output = ()>,
    tell: &mpsc::SyncSender<io::Result<()>>,
) {
    let started = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let _entered = runtime.enter();
        TcpListener::from_std(listener).map(|listener| (listener, runtime))
    });
    let (listener, runtime) = match started {
        Ok(started) => started,
        Err(error) => return drop(tell.send(Err(error))),
    };
    drop(tell.send(Ok(())));
    runtime.block_on(async {
        let places = Places::new(CONNECTIONS);
        let (end, ending) = watch::channel(false);
        tokio::select! {
            () = ended => {}
            () = accept(&listener, &places, routes, &ending) => {}
        }
        drop(listener);
        end.send_replace(true);
        let _ = timeout(END, places.all_free()).await;
    });
}

async fn accept(listener: &TcpListener, places: &Places, routes: &Arc<StatusRoutes>, ending: &Ending) {
    let full = full();
    let mut has_failed = false;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                has_failed = false;
                match places.take() {
                    Some(place) => drop(tokio::spawn(serve(socket, peer, Arc::clone(routes), ending.clone(), place))),
                    // A new socket's buffer has room for it. Its peer is not waited for.
                    None => drop(socket.try_write(full.as_bytes())),
                }
            }
            Err(error) => {
                if !has_failed {
                    tracing::warn!(%error, "the status server cannot accept a connection; it tries again each 100 ms");
                }
                has_failed = true;
                sleep(AGAIN).await;
            }
        }
    }
}

/// The answer to a connection above the limit.
fn full() -> String {
    let words = format!("{CONNECTIONS} connections are open, which is the limit: try again later\n");
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\
         Retry-After: 5\r\n\r\n{words}",
        words.len()
    )
}
