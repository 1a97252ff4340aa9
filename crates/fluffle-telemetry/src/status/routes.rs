//! From a request to its answer. Knows no sockets, so that an application can serve the page from a server of its own.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::{
    status::{
        actions::{self, Action},
        body::StatusBody,
        guard::{For, Guard, Refused},
        news::News,
        page,
    },
    telemetry::Telemetry,
    text,
};

/// The most readers of `/events` at a time. The tabs of one browser share a stream.
const STREAMS: usize = 32;

/// The most bytes of an action's body.
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
    streams: Arc<Semaphore>,
}

type Answer = Response<StatusBody>;

impl StatusRoutes {
    pub(crate) fn new(telemetry: Telemetry, guard: Guard, actions: BTreeSet<Action>) -> Self {
        Self { telemetry, guard, actions, streams: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// The answer to a request. `peer` is who asks, for the log of actions. A body of more than 4 KiB is refused; do
    /// not read more of it.
    pub async fn answer(&self, request: &Request<Bytes>, peer: SocketAddr) -> Answer {
        let mut answer = match self.route(request, peer).await {
            Ok(answer) => answer,
            Err(Refused(status, words)) => in_words(status, words),
        };
        let headers = answer.headers_mut();
        for (name, value) in ALWAYS {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if request.method() == Method::HEAD {
            *answer.body_mut() = StatusBody::whole(Bytes::new());
        }
        answer
    }

    async fn route(&self, request: &Request<Bytes>, peer: SocketAddr) -> Result<Answer, Refused> {
        let (path, headers) = (request.uri().path(), request.headers());
        if let Some(name) = path.strip_prefix("/actions/") {
            return match *request.method() {
                Method::POST => self.act(name, request, peer).await,
                _ => Ok(only("POST")),
            };
        }
        let what = match path {
            "/live" | "/ready" | "/" => For::Anybody,
            _ => For::Reading,
        };
        self.guard.check(what, headers)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(only("GET, HEAD"));
        }
        match path {
            "/" => Ok(self.page()),
            "/picture.json" => Ok(json(StatusCode::OK, &self.telemetry.picture().as_deref())),
            "/history.json" => Ok(json(StatusCode::OK, &self.telemetry.history())),
            "/events" => self.events(),
            "/metrics" => Ok(self.metrics(headers)),
            "/live" => Ok(self.probe(|health| health.is_alive(), |health| health.not_alive.clone())),
            "/ready" => Ok(self
                .probe(|health| health.is_ready(), |health| [&health.not_alive[..], &health.not_ready[..]].concat())),
            _ => Err(Refused(
                StatusCode::NOT_FOUND,
                "there is no such page here: see /, /metrics, /live, /ready, /picture.json, /history.json and /events",
            )),
        }
    }

    fn page(&self) -> Answer {
        // Where reading needs the token, the page comes without anything of the service, asks for the token, and
        // fetches the rest.
        let is_open = !self.guard.reading_needs_token();
        let picture = if is_open { to_json(&self.telemetry.picture().as_deref()) } else { "null".to_owned() };
        let history = if is_open { to_json(&self.telemetry.history()) } else { "null".to_owned() };
        let document = page::html(&picture, &history, !self.actions.is_empty() || !is_open);
        let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", document);
        let policy = HeaderValue::from_static(page::content_security_policy());
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        answer
    }

    fn events(&self) -> Result<Answer, Refused> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Refused(StatusCode::SERVICE_UNAVAILABLE, "32 readers follow this service already: close one, and try again")
        })?;
        let body = StatusBody::stream(News::new(self.telemetry.shots()), permit);
        let mut answer = Response::new(body);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        Ok(answer)
    }

    fn metrics(&self, headers: &HeaderMap) -> Answer {
        let families = self.telemetry.read();
        if wants_openmetrics(headers) {
            whole(StatusCode::OK, text::OPENMETRICS, text::openmetrics(&families))
        } else {
            whole(StatusCode::OK, text::PROMETHEUS, text::prometheus(&families))
        }
    }

    fn probe(
        &self,
        is_well: impl Fn(&fluffle_amqp::Health) -> bool,
        findings: impl Fn(&fluffle_amqp::Health) -> Vec<fluffle_amqp::Finding>,
    ) -> Answer {
        let Some(health) = self.telemetry.health() else {
            return in_words(StatusCode::SERVICE_UNAVAILABLE, "the service is not started yet");
        };
        if is_well(&health) {
            return in_words(StatusCode::OK, "ok");
        }
        let lines: Vec<_> = findings(&health).iter().map(ToString::to_string).collect();
        in_words(StatusCode::SERVICE_UNAVAILABLE, &lines.join("\n"))
    }

    async fn act(&self, name: &str, request: &Request<Bytes>, peer: SocketAddr) -> Result<Answer, Refused> {
        self.guard.check(For::Acting, request.headers()).inspect_err(|Refused(_, why)| {
            tracing::warn!(action = name, %peer, "an action of the status page was refused: {why}");
        })?;
        let action = Action::parse(name).ok_or(Refused(StatusCode::NOT_FOUND, "there is no such action"))?;
        if !self.actions.contains(&action) {
            return Err(Refused(
                StatusCode::FORBIDDEN,
                "this action is switched off: the application allows actions with `Status::allow`",
            ));
        }
        if request.body().len() > LARGEST_BODY {
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 KiB"));
        }
        let service = self.telemetry.service();
        let service = service.ok_or(Refused(StatusCode::SERVICE_UNAVAILABLE, "the service is not started yet"))?;
        let wished: actions::Request = match serde_json::from_slice(request.body()) {
            Ok(wished) => wished,
            Err(error) => return Ok(json(StatusCode::BAD_REQUEST, &Error { error: format!("the body: {error}") })),
        };
        Ok(match actions::act(service, action, &wished, peer).await {
            Ok(done) => json(StatusCode::OK, &done),
            Err((status, error)) => json(status, &Error { error }),
        })
    }
}

#[derive(Serialize)]
struct Error {
    error: String,
}

/// Headers of every answer: nothing is guessed, framed, or told to other pages.
const ALWAYS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(StatusBody::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn in_words(status: StatusCode, words: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    whole(status, "application/json", to_json(value))
}

fn to_json(value: &impl Serialize) -> String {
    // Pictures have no maps with keys that are no texts, so that this does not fail.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn only(methods: &'static str) -> Answer {
    let mut answer = in_words(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods} may be used here"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

/// Whether OpenMetrics is wished for more than plain text, by the q-values of `Accept`.
fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let quality = |wished: &str| {
        let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds = accept.flat_map(|value| value.split(','));
        let matching = kinds.filter_map(|kind| {
            let mut parts = kind.split(';').map(str::trim);
            let name = parts.next()?;
            let quality = parts.filter_map(|part| part.strip_prefix("q=")).find_map(|q| q.parse::<f32>().ok());
            name.eq_ignore_ascii_case(wished).then_some(quality.unwrap_or(1.0))
        });
        matching.fold(0.0, f32::max)
    };
    let openmetrics = quality("application/openmetrics-text");
    openmetrics > 0.0 && openmetrics >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_metrics_is_the_one_that_is_wished_most() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            wants_openmetrics(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants(prometheus));
        assert!(!wants("text/plain"));
        assert!(!wants("*/*"));
        assert!(!wants("application/openmetrics-text;q=0.3, text/plain;q=0.4"));
        assert!(!wants_openmetrics(&HeaderMap::new()));
    }
}
