//! The status server: a thread of its own, so that it answers while the service's threads are blocked.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    status::{
        body::{LastTaken, StatusBody},
        guard::Guard,
        routes::{LARGEST_BODY, StatusRoutes, in_words},
        settings::{Status, StatusError},
    },
    telemetry::{Shot, Telemetry},
};

/// The most connections at a time.
const CONNECTIONS: usize = 128;

/// How long a client may take to send the head of a request, and then its body.
const SLOWEST: Duration = Duration::from_secs(5);

/// How long a reader of a stream may take nothing.
const STUCK: Duration = Duration::from_secs(30);

/// The most bytes of a request's head.
const LARGEST_HEAD: usize = 16 * 1024;

/// A running status server. Dropped, it ends.
#[derive(Debug)]
pub struct StatusServer {
    address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl StatusServer {
    /// Where it listens; with the port that it got, if port 0 was wished.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Telemetry {
    /// Serves the status page, `/metrics`, `/live` and `/ready` until the returned value is dropped. Before
    /// [`attach`](Telemetry::attach), the probes say that the service is not started. `App::status` does this for you.
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
        let address = self.start(status.into(), async { drop(ended.await) })?;
        Ok(StatusServer { address, _end: end })
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
        let address = self.start(status.into(), ended)?;
        tracing::info!("the status page of this service: http://{address}/");
        Ok(address)
    }

    /// The routes of [`serve`](Self::serve) without the server, for an HTTP server of the application's own. The
    /// address in `status` must be the one that the application's server listens on, because it says who can connect.
    ///
    /// # Errors
    /// [`StatusError`], which says what to do.
    pub fn routes(&self, status: impl Into<Status>) -> Result<StatusRoutes, StatusError> {
        let status = status.into();
        let address = status.check()?;
        Ok(self.routes_at(status, address))
    }

    fn routes_at(&self, status: Status, address: SocketAddr) -> StatusRoutes {
        self.allow(&status.actions);
        let Status { token, hosts, actions, .. } = status;
        StatusRoutes::new(self.clone(), Guard::new(address, token, hosts), actions)
    }

    fn start(
        &self,
        status: Status,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<SocketAddr, StatusError> {
        let wished = status.check()?;
        let listener = TcpListener::bind(wished).map_err(|error| StatusError::Bind { address: wished, error })?;
        let address = listener.local_addr().map_err(|error| StatusError::Bind { address: wished, error })?;
        listener.set_nonblocking(true).map_err(StatusError::Thread)?;
        let routes = Arc::new(self.routes_at(status, address));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StatusError::Thread)?;
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = ended => {}
                    () = accept(listener, routes) => {}
                }
            });
        };
        thread::Builder::new().name("status".to_owned()).spawn(run).map_err(StatusError::Thread)?;
        Ok(address)
    }
}

async fn accept(listener: TcpListener, routes: Arc<StatusRoutes>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the status server cannot listen"),
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the status server could not accept a connection; it goes on in 100 ms");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Past the limit a connection is closed at once.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let routes = Arc::clone(&routes);
        tokio::spawn(async move {
            serve(socket, peer, &routes).await;
            drop(permit);
        });
    }
}

async fn serve(socket: tokio::net::TcpStream, peer: SocketAddr, routes: &Arc<StatusRoutes>) {
    let (streams, stream) = watch::channel(None::<Arc<LastTaken>>);
    let answer = service_fn(|request: Request<Incoming>| {
        let (routes, streams) = (Arc::clone(routes), streams.clone());
        async move {
            let answer = match whole(request).await {
                Ok(request) => routes.answer(&request, peer).await,
                Err(refused) => refused,
            };
            streams.send_replace(answer.body().last_taken());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(socket), answer);
    tokio::select! {
        // A client that breaks off is no news.
        _ = connection => {}
        () = stuck(stream) => {}
    }
}

/// Resolves when the reader of a stream has taken nothing for too long.
async fn stuck(stream: watch::Receiver<Option<Arc<LastTaken>>>) {
    loop {
        sleep(SLOWEST).await;
        if stream.borrow().as_ref().is_some_and(|taken| taken.ago() > STUCK) {
            return;
        }
    }
}

/// The request with its body, which is small and comes soon, or it is refused.
async fn whole(request: Request<Incoming>) -> Result<Request<Bytes>, Response<StatusBody>> {
    let (head, body) = request.into_parts();
    let read = timeout(SLOWEST, Limited::new(body, LARGEST_BODY).collect());
    match read.await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(_)) => Err(in_words(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 KiB, or broke off")),
        Err(_) => Err(in_words(StatusCode::REQUEST_TIMEOUT, "the body did not come within 5 s")),
    }
}
