//! The status page as a document: what is in it, what never is, and how large it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pictures;

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use fluffle_telemetry::status::page::{LARGEST, content_security_policy, html};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A document of a picture and its history.
fn document(name: &str) -> String {
    let picture = pictures::of(name, 0);
    let history = pictures::history(&picture);
    html(&serde_json::to_string(&picture).unwrap(), &serde_json::to_string(&history).unwrap(), true)
}

/// What stands between `start` and the next `end`.
fn between<'a>(document: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = document.split_once(start).unwrap_or_else(|| panic!("the document has no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("nothing ends {start}")).0
}

fn json_of(document: &str, id: &str) -> Value {
    let json = between(document, &format!(r#"<script type="application/json" id="{id}">"#), "</script>");
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_first_paint_of_three_queues_is_one_request_below_100_kb() {
    for name in pictures::NAMES.into_iter().filter(|name| !["many", "hostile"].contains(name)) {
        let document = document(name);
        assert!(document.len() < LARGEST, "{name}: {} bytes", document.len());
        let picture = json_of(&document, "picture");
        let shown = picture["queues"].as_array().unwrap();
        assert_eq!(shown.len(), 3, "{name}: the picture is in the document: {} bytes without", document.len());
        assert_eq!(picture["process"]["name"], "quakes");
    }
}

#[test]
fn what_does_not_fit_is_left_to_a_second_request() {
    let small = html(r#"{"queues":[]}"#, r#"{"series":[]}"#, false);
    assert_eq!(json_of(&small, "picture"), serde_json::json!({"queues": []}));
    assert_eq!(json_of(&small, "history"), serde_json::json!({"series": []}));
    assert_eq!(json_of(&small, "settings"), serde_json::json!({"token_needed": false}));

    let many = document("many");
    assert!(many.len() < LARGEST, "{} bytes", many.len());
    assert_eq!(json_of(&many, "picture"), Value::Null);
    assert_eq!(json_of(&many, "history"), Value::Null);
    assert_eq!(json_of(&many, "settings"), serde_json::json!({"token_needed": true}));

    // Exactly as large as it may be, and one byte more.
    let room = LARGEST - (html("null", "null", true).len() - "null".len());
    let picture = |bytes: usize| format!("\"{}\"", "p".repeat(bytes - 2));
    let fits = html(&picture(room), "null", true);
    assert!(json_of(&fits, "picture").is_string(), "a picture that fits is in the document");
    assert_eq!(fits.len(), LARGEST);
    let is_too_large = html(&picture(room + 1), "null", true);
    assert_eq!(json_of(&is_too_large, "picture"), Value::Null);
}

#[test]
fn no_text_of_the_application_becomes_html() {
    // Small enough to be in the document with its messages.
    let mut picture = pictures::hostile(0);
    picture.queues.truncate(1);
    picture.queues[0].messages.truncate(2);
    picture.tree.children.truncate(2);
    picture.publishers.truncate(1);
    let history = pictures::history(&picture);
    let json = serde_json::to_string(&picture).unwrap();
    let hostile = html(&json, &serde_json::to_string(&history).unwrap(), true);
    let plain = html("null", "null", true);

    for mark in ["<script", "</script", "<img", "<!--", "<style", "<a ", "<"] {
        let count = |document: &str| document.matches(mark).count();
        assert_eq!(count(&hostile), count(&plain), "{mark}: the picture adds none");
    }
    // It is there nevertheless, as text.
    let shown = json_of(&hostile, "picture");
    assert_eq!(shown["process"]["name"], picture.process.name);
    assert_eq!(shown["queues"][0]["name"], "__proto__");
    assert_eq!(shown["health"]["ready"][1], picture.health.ready[1]);
}

#[test]
fn the_policy_names_the_style_and_the_script_of_the_page() {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = content_security_policy();
    for name in ["healthy", "hostile"] {
        let document = document(name);
        let script = hash(between(&document, r#"<script type="module">"#, "</script>"));
        let style = hash(between(&document, "<style>", "</style>"));
        assert!(policy.contains(&format!("script-src {script};")), "{policy}\n{script}");
        assert!(policy.contains(&format!("style-src {style};")), "{policy}\n{style}");
    }
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.split("; ").any(|one| one == part), "{part} is in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

/// The policy forbids these; a part that has them would do nothing in a browser, or would need a weaker policy.
#[test]
fn the_sources_make_no_html_from_text_and_have_no_inline_handlers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/status/page");
    let mut parts = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            continue;
        }
        parts += 1;
        let source = fs::read_to_string(&file).unwrap();
        assert!(source.lines().count() <= 500, "{name} has more than 500 lines");
        for (number, line) in (1..).zip(source.lines()) {
            assert!(line.chars().count() <= 120, "{name}:{number} is longer than 120 columns");
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "eval(",
                "new Function",
                "setAttribute(\"on",
                "setAttribute(\"style",
                " style=",
                "onclick",
                "javascript:",
                "https://",
                "@import",
                "url(",
            ] {
                assert!(!line.contains(banned), "{name}:{number} has {banned}: {line}");
            }
            let is_comment = line.trim_start().starts_with("//");
            assert!(is_comment || !line.contains(" // "), "{name}:{number} has a comment behind code");
            let is_address = line.contains("http://") && !line.contains("http://www.w3.org/2000/svg");
            assert!(!is_address, "{name}:{number} has an address: {line}");
        }
    }
    assert!(parts > 10, "the parts of the page are in this folder: {parts}");
}
