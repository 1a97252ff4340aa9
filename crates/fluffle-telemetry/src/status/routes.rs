//! From a request to its answer. Knows no sockets, so that an application can serve the page from a server of its own.

use std::{collections::BTreeSet, net::SocketAddr};

use fluffle_amqp::{Finding, Health};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, VARY},
};
use serde::Serialize;

use crate::{
    status::{
        accept::wants_openmetrics,
        actions::{self, Action, NotDone},
        answer::{Answer, busy, finished, in_words, json, only, to_json, whole},
        body::StatusBody,
        guard::{Guard, Refused, check_content_type, check_origin},
        login,
        news::News,
        page,
        places::Places,
    },
    telemetry::Telemetry,
    text,
};

/// The most readers of `/events` at a time. The tabs of one browser share a stream.
const READERS: u32 = 32;

/// The most actions at a time.
const ACTIONS: u32 = 4;

/// The most bytes of a request's body.
pub(crate) const LARGEST_BODY: usize = 4096;

/// The routes of the status server without the server: for an application that serves the page from an HTTP server of
/// its own. Made by [`Telemetry::routes`].
///
/// In actix-web, as the last service of an app (`GET`, `HEAD` and `POST` of every path that is left):
///
/// ```
/// use actix_web::{HttpRequest, HttpResponse, web};
/// use fluffle_telemetry::status::{StatusRoutes, hyper};
///
/// async fn status(routes: web::Data<StatusRoutes>, asked: HttpRequest, body: web::Bytes) -> HttpResponse {
///     let mut request = hyper::Request::builder().method(asked.method().as_str()).uri(asked.uri().to_string());
///     for (name, value) in asked.headers() {
///         request = request.header(name.as_str(), value.as_bytes());
///     }
///     let (Ok(request), Some(peer)) = (request.body(body), asked.peer_addr()) else {
///         return HttpResponse::BadRequest().finish();
///     };
///     let (head, body) = routes.answer(&request, peer).await.into_parts();
///     let status = actix_web::http::StatusCode::from_u16(head.status.as_u16());
///     let mut answer = HttpResponse::build(status.unwrap_or_default());
///     for (name, value) in &head.headers {
///         answer.append_header((name.as_str(), value.as_bytes()));
///     }
///     answer.streaming(body)
/// }
/// ```
pub struct StatusRoutes {
    telemetry: Telemetry,
    guard: Guard,
    actions: BTreeSet<Action>,
    open_metrics: bool,
    readers: Places,
    places: Places,
}

impl StatusRoutes {
    pub(crate) fn new(telemetry: Telemetry, guard: Guard, actions: BTreeSet<Action>, open_metrics: bool) -> Self {
        let (readers, places) = (Places::new(READERS), Places::new(ACTIONS));
        Self { telemetry, guard, actions, open_metrics, readers, places }
    }

    /// The answer to a request. `peer` is who asks, for the log of actions. A body of more than 4 KiB is refused; do
    /// not read more of it. Needs a tokio runtime. An action is waited for at most 30 seconds; all other answers are
    /// made at once.
    pub async fn answer(&self, request: &Request<Bytes>, peer: SocketAddr) -> Response<StatusBody> {
        let answer = self.route(request, peer).await.unwrap_or_else(Answer::from);
        finished(answer, request.method())
    }

    async fn route(&self, request: &Request<Bytes>, peer: SocketAddr) -> Result<Answer, Refused> {
        let (path, headers) = (request.uri().path(), request.headers());
        self.guard.check_host(headers)?;
        if request.body().len() > LARGEST_BODY {
            return Err(TOO_LARGE);
        }
        let (methods, is_allowed) = match path {
            "/login" => ("POST", request.method() == Method::POST),
            _ if path.starts_with("/actions/") => ("POST", request.method() == Method::POST),
            _ => ("GET, HEAD", matches!(*request.method(), Method::GET | Method::HEAD)),
        };
        if !is_allowed {
            return Ok(only(methods));
        }
        match path {
            "/live" => Ok(self.probe(headers, |health| health.not_alive.clone())),
            "/ready" => Ok(self.probe(headers, |health| [&health.not_alive[..], &health.not_ready].concat())),
            "/metrics" if self.open_metrics => Ok(self.metrics(headers)),
            "/" if !self.guard.may_read(headers) => Ok(login::page()),
            "/login" if self.guard.is_exposed() => Ok(login::take(&self.guard, request.body())),
            "/" | "/picture.json" | "/history.json" | "/events" | "/metrics" => {
                self.guard.check_read(headers)?;
                Ok(self.read(path, headers))
            }
            _ => match path.strip_prefix("/actions/").and_then(Action::parse) {
                Some(action) => self.act(action, request, peer).await,
                None => Err(NO_SUCH_PAGE),
            },
        }
    }

    fn read(&self, path: &str, headers: &HeaderMap) -> Answer {
        match path {
            "/picture.json" => json(StatusCode::OK, &self.telemetry.picture().as_deref()),
            "/history.json" => json(StatusCode::OK, &self.telemetry.history()),
            "/events" => self.events(),
            "/metrics" => self.metrics(headers),
            _ => self.page(),
        }
    }

    fn page(&self) -> Answer {
        let picture = to_json(&self.telemetry.picture().as_deref());
        let history = to_json(&self.telemetry.history());
        let document = page::html(&picture, &history, !self.actions.is_empty());
        let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", document);
        let policy = HeaderValue::from_static(page::content_security_policy());
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        answer
    }

    fn events(&self) -> Answer {
        let Some(place) = self.readers.take() else {
            let words = format!("{READERS} readers follow this service already, which is the limit: close one");
            return busy(&words, "10");
        };
        let mut answer = Response::new(StatusBody::stream(News::new(self.telemetry.shots()), place));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        answer
    }

    fn metrics(&self, headers: &HeaderMap) -> Answer {
        let families = self.telemetry.read();
        let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut answer = if wants_openmetrics(&accept.join(",")) {
            whole(StatusCode::OK, text::OPENMETRICS, text::openmetrics(&families))
        } else {
            whole(StatusCode::OK, text::PROMETHEUS, text::prometheus(&families))
        };
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        answer
    }

    fn probe(&self, headers: &HeaderMap, findings: impl Fn(&Health) -> Vec<Finding>) -> Answer {
        let Some(health) = self.telemetry.health() else {
            return in_words(StatusCode::SERVICE_UNAVAILABLE, "the service is not started yet");
        };
        let findings = findings(&health);
        if findings.is_empty() {
            return in_words(StatusCode::OK, "ok");
        }
        if !self.guard.may_read(headers) {
            // A probe of Kubernetes has no token. Names of queues and texts of errors are not for every host.
            let words = format!("{} findings: send the token of the status server to read them", findings.len());
            return in_words(StatusCode::SERVICE_UNAVAILABLE, &words);
        }
        // A finding of several lines would look like several findings.
        let lines: Vec<_> = findings.iter().map(|finding| finding.to_string().replace(['\r', '\n'], " ")).collect();
        in_words(StatusCode::SERVICE_UNAVAILABLE, &lines.join("\n"))
    }

    async fn act(&self, action: Action, request: &Request<Bytes>, peer: SocketAddr) -> Result<Answer, Refused> {
        self.check_action(action, request.headers()).inspect_err(|Refused(_, why)| {
            tracing::debug!(action = action.as_str(), %peer, "an action of the status page was refused: {why}");
        })?;
        let service = self.telemetry.service().cloned();
        let service = service.ok_or(Refused(StatusCode::SERVICE_UNAVAILABLE, "the service is not started yet"))?;
        let wished: actions::Request = match serde_json::from_slice(request.body()) {
            Ok(wished) => wished,
            Err(error) => {
                let error = format!("the body of the action `{}` is wrong: {error}", action.as_str());
                return Ok(json(StatusCode::BAD_REQUEST, &Error { error }));
            }
        };
        let Some(place) = self.places.take() else {
            return Ok(busy(&format!("{ACTIONS} actions run already, which is the limit: wait for one to end"), "5"));
        };
        Ok(match actions::act(service, action, wished, peer, place).await {
            Ok(done) => json(StatusCode::OK, &done),
            Err(NotDone(status, error)) => json(status, &Error { error }),
        })
    }

    fn check_action(&self, action: Action, headers: &HeaderMap) -> Result<(), Refused> {
        check_origin(headers)?;
        if !self.actions.contains(&action) {
            return Err(Refused(
                StatusCode::FORBIDDEN,
                "this action is switched off: the application allows actions with `Status::allow`",
            ));
        }
        self.guard.check_token(headers)?;
        check_content_type(headers)
    }
}

#[derive(Serialize)]
struct Error {
    error: String,
}

pub(crate) const TOO_LARGE: Refused =
    Refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 KiB, which no request to this server needs");

pub(crate) const NO_SUCH_PAGE: Refused = Refused(
    StatusCode::NOT_FOUND,
    "there is no such page here: see /, /metrics, /live, /ready, /picture.json, /history.json, /events and, for the \
     actions that are allowed, /actions/",
);
