//! The status page: one HTML document with its style, its script and what it shows first.
//!
//! The page is plain HTML, CSS and JavaScript, without a framework and without a build step: the parts below are
//! joined, without their comments and indentation, when a page is first asked for. Charts are SVG elements that
//! `chart.js` makes, not a library's: the page needs a line and bars, and uPlot alone would take half of the 100 KB
//! that a first paint may have.
//!
//! Texts of the application never become HTML. In the document they stand inside JSON in which every `<` is escaped;
//! the script puts them on the page as text nodes. The policy of [`content_security_policy`] allows one style and one
//! script by their hashes and nothing else, and it forbids the script to make HTML from text.

mod lean;

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The most bytes that [`html`] puts into one document. What does not fit is fetched by the page after its first paint.
pub const LARGEST: usize = 100_000;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| lean::lines(include_str!("index.html")));

static STYLE: LazyLock<String> =
    LazyLock::new(|| lean::style(concat!(include_str!("page.css"), include_str!("parts.css"))));

static SCRIPT: LazyLock<String> = LazyLock::new(|| lean::script(PARTS));

/// Joined into one module, so no part needs to import another.
const PARTS: &str = concat!(
    include_str!("words.js"),
    include_str!("dom.js"),
    include_str!("history.js"),
    include_str!("chart.js"),
    include_str!("findings.js"),
    include_str!("actions.js"),
    include_str!("summary.js"),
    include_str!("tree.js"),
    include_str!("message.js"),
    include_str!("queue.js"),
    include_str!("queues.js"),
    include_str!("sections.js"),
    include_str!("stream.js"),
    include_str!("page.js"),
);

/// The page as an HTML document.
///
/// `picture_json` is a [`Picture`](super::picture::Picture) and `history_json` a
/// [`HistoryView`](super::picture::HistoryView), each as JSON. If they would make the document larger than
/// [`LARGEST`], the history is left out, then the messages of the queues, then the whole picture. The page fetches
/// `/history.json` and `/picture.json` for what is missing; the messages come with the next picture of the stream.
/// `null` in place of either JSON does the same, for example if reading needs a token.
///
/// `token_needed` says whether actions need a token. The page asks for it once and keeps it in the tab's session
/// storage. If reading needs it as well, `/events` answers 401 and the page asks for it.
///
/// ```
/// let document = fluffle_telemetry::status::page::html("null", "null", true);
/// assert!(document.starts_with("<!doctype html>"));
/// ```
#[must_use]
pub fn html(picture_json: &str, history_json: &str, token_needed: bool) -> String {
    let settings = format!("{{\"token_needed\":{token_needed}}}");
    let frame = fill(&settings, "", "").len();
    let fits = |picture: &str, history: &str| frame + picture.len() + history.len() <= LARGEST;
    let picture = in_script(picture_json);
    let history = in_script(history_json);
    if fits(&picture, &history) {
        return fill(&settings, &picture, &history);
    }
    if fits(&picture, NOTHING) {
        return fill(&settings, &picture, NOTHING);
    }
    let thin = thin(picture_json).map(|picture| in_script(&picture)).filter(|picture| fits(picture, NOTHING));
    fill(&settings, thin.as_deref().unwrap_or(NOTHING), NOTHING)
}

/// In place of a picture or history that the page is to fetch.
const NOTHING: &str = "null";

/// The document with its parts. What is put in is not searched for further marks, so that a name such as `{{script}}`
/// in a picture stays a text.
fn fill(settings: &str, picture: &str, history: &str) -> String {
    // In the order of the document.
    let parts: [(&str, &str); 5] = [
        ("{{style}}", &STYLE),
        ("{{settings}}", settings),
        ("{{picture}}", picture),
        ("{{history}}", history),
        ("{{script}}", &SCRIPT),
    ];
    let bytes = parts.iter().map(|(_, part)| part.len()).sum::<usize>();
    let mut document = String::with_capacity(DOCUMENT.len() + bytes);
    let mut rest = DOCUMENT.as_str();
    for (mark, part) in parts {
        if let Some((before, after)) = rest.split_once(mark) {
            document.push_str(before);
            document.push_str(part);
            rest = after;
        }
    }
    document.push_str(rest);
    document
}

/// The value of the header `Content-Security-Policy` that belongs to the page.
///
/// It allows the page's own style and script by their SHA-256 hashes, requests to the page's own server, and its icon
/// (a `data:` address). It forbids frames around the page, form targets, and making HTML from text.
#[must_use]
pub fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash(&SCRIPT),
            hash(&STYLE)
        )
    });
    &POLICY
}

/// A picture whose queues have no messages, and without the fields that are `null`.
fn thin(picture_json: &str) -> Option<String> {
    let mut picture: Value = serde_json::from_str(picture_json).ok()?;
    for queue in picture.get_mut("queues")?.as_array_mut()? {
        *queue.get_mut("messages")? = Value::Array(Vec::new());
    }
    drop_nulls(&mut picture);
    Some(picture.to_string())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => (),
    }
}

/// JSON as it may stand in a `script` element. Without a `<`, nothing in it can end the element or begin a comment.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// The hash of an inline style or script, as a content security policy names it.
pub(crate) fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
