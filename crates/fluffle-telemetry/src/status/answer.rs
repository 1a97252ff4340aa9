//! The answers of the status server, and the headers that all of them have.

use hyper::{
    Method, Response, StatusCode,
    body::{Body, Bytes},
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
        RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde::Serialize;

use crate::status::{body::StatusBody, guard::Refused};

pub(crate) type Answer = Response<StatusBody>;

/// Headers of every answer: nothing is guessed, framed, kept, or told to other pages. None lets other origins read.
const ALWAYS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// The policy of an answer that is no page.
const CLOSED: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// How a client learns that it must send the token.
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"fluffle status\"");

pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(StatusBody::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn in_words(status: StatusCode, words: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    whole(status, "application/json", to_json(value))
}

pub(crate) fn to_json(value: &impl Serialize) -> String {
    // Pictures have no maps with keys that are no texts, so that this does not fail.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// All places are taken: try again after this many seconds.
pub(crate) fn busy(words: &str, seconds: &'static str) -> Answer {
    let mut answer = in_words(StatusCode::SERVICE_UNAVAILABLE, words);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    answer
}

/// The path takes other methods.
pub(crate) fn only(methods: &'static str) -> Answer {
    let mut answer = in_words(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods} may be used here"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

impl From<Refused> for Answer {
    fn from(Refused(status, words): Refused) -> Self {
        let mut answer = in_words(status, words);
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        answer
    }
}

/// Adds the headers that each answer has, and takes the body out of an answer to `HEAD`.
pub(crate) fn finished(mut answer: Answer, method: &Method) -> Answer {
    let length = answer.body().size_hint().exact();
    let headers = answer.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(CLOSED));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if method == Method::HEAD {
        *answer.body_mut() = StatusBody::whole(Bytes::new());
    }
    answer
}
