//! The page that asks for the token where reading needs it.

use std::sync::LazyLock;

use hyper::{
    StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, SET_COOKIE, WWW_AUTHENTICATE},
};

use crate::status::{
    answer::{Answer, CHALLENGE, in_words, whole},
    guard::Guard,
    page::hash,
};

const STYLE: &str = include_str!("page/login.css");

/// Sends its content as plain text, so that the token arrives as it was typed.
static FORM: LazyLock<String> = LazyLock::new(|| include_str!("page/login.html").replace("{{style}}", STYLE));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = hash(STYLE);
    format!("default-src 'none'; style-src '{style}'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
});

/// Asks a person for the token.
pub(crate) fn page() -> Answer {
    let mut answer = whole(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", FORM.as_str());
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(&POLICY));
    answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    answer
}

/// Answers the form. The form cannot name its origin, because `Referrer-Policy: no-referrer` makes it `null`. It needs
/// none: whoever sends the token may read.
pub(crate) fn take(guard: &Guard, form: &[u8]) -> Answer {
    let form = std::str::from_utf8(form).unwrap_or_default();
    let token = form.trim_end_matches(['\r', '\n']).strip_prefix("token=").unwrap_or_default();
    let Some(cookie) = guard.log_in(token).and_then(|cookie| HeaderValue::try_from(cookie).ok()) else {
        let words = "this is not the token of the status page: go back and try again";
        return in_words(StatusCode::UNAUTHORIZED, words);
    };
    let mut answer = in_words(StatusCode::SEE_OTHER, "logged in");
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static("./"));
    answer
}
