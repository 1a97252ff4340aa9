//! One connection to the status server, and its limits.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::status::{
    answer::{Answer, finished},
    guard::Refused,
    paced::Paced,
    places::Place,
    routes::{LARGEST_BODY, NO_SUCH_PAGE, StatusRoutes, TOO_LARGE},
};

/// How long a client may take to send the head of a request, and then its body; and how long a connection may be idle.
const SLOWEST: Duration = Duration::from_secs(5);

/// How long a reader may take nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of a request's head, and of an answer that wait for the socket, one picture aside.
const BUFFER: usize = 16 * 1024;

/// The most headers.
const HEADERS: usize = 64;

/// Whether the server has begun to end.
pub(crate) type Ending = watch::Receiver<bool>;

/// Resolves when the server ends.
pub(crate) async fn end_of(mut ending: Ending) {
    // An error means that the sender is gone, which is an end too.
    drop(ending.wait_for(|is_ending| *is_ending).await);
}

/// Answers the requests of one connection, until the client closes it or the server ends.
pub(crate) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    routes: Arc<StatusRoutes>,
    ending: Ending,
    _place: Place,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (routes, ending) = (Arc::clone(&routes), ending.clone());
        async move {
            let method = request.method().clone();
            let answer = match whole(request).await {
                Ok(request) => routes.answer(&request, peer).await,
                Err(refused) => closing(refused, &method),
            };
            Ok::<_, Infallible>(answer.map(|body| body.until(end_of(ending))))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SLOWEST)
            .max_buf_size(BUFFER)
            .max_headers(HEADERS)
            // One buffer of `BUFFER` bytes: with many, each could hold a whole picture.
            .writev(false)
            .serve_connection(TokioIo::new(Paced::new(socket, PATIENCE)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end_of(ending.clone()) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection of the status server ended early");
    }
}

/// The request with its body, which is small and comes soon.
async fn whole(request: Request<Incoming>) -> Result<Request<Bytes>, Refused> {
    let (head, body) = request.into_parts();
    if head.uri.authority().is_some() {
        // The form of a request to a proxy.
        return Err(NO_SUCH_PAGE);
    }
    match timeout(SLOWEST, Limited::new(body, LARGEST_BODY).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(TOO_LARGE),
        Ok(Err(_)) => Err(Refused(StatusCode::BAD_REQUEST, "the body cannot be read")),
        Err(_) => Err(Refused(StatusCode::REQUEST_TIMEOUT, "the body did not come within 5 s")),
    }
}

/// Refuses a request whose body was not read to its end, so that the connection cannot be used again.
fn closing(refused: Refused, method: &Method) -> Answer {
    let mut answer = finished(Answer::from(refused), method);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
