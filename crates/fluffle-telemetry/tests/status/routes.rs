//! What the server answers.

use std::{
    io::{Read, Write},
    time::Instant,
};

use fluffle::prelude::*;
use fluffle_telemetry::{
    Telemetry,
    status::{
        StatusError,
        hyper::{Request, body::Bytes},
        page::content_security_policy,
    },
};
use futures_util::StreamExt;

use crate::{
    client::{body, code, connect, exchange, get, header, json, request},
    service::{Served, status, until},
};

#[test]
fn the_page_is_one_answer_with_the_policy_of_its_hashes_and_has_the_picture() {
    let served = Served::start(status());
    let page = get(&served, "/", "");
    assert_eq!((code(&page), header(&page, "content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(header(&page, "content-security-policy"), Some(content_security_policy()));
    let pid = format!("\"pid\":{}", std::process::id());
    assert!(body(&page).starts_with("<!doctype html>") && body(&page).contains(&pid), "{page}");
}

#[test]
fn each_answer_has_the_headers_that_keep_it_apart_from_other_sites() {
    let served = Served::start(status());
    for path in ["/", "/picture.json", "/history.json", "/metrics", "/live", "/nothing", "/actions/pause", "/login"] {
        let answer = get(&served, path, "Origin: http://evil.example\n");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{path}");
        }
        let policy = header(&answer, "content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
}

#[test]
fn pictures_and_history_are_json() {
    let served = Served::start(status());
    let picture = get(&served, "/picture.json", "");
    assert_eq!((code(&picture), header(&picture, "content-type")), (200, Some("application/json")));
    assert_eq!(json(&picture)["queues"][0]["name"], "orders");
    until("the history has the queue", || json(&get(&served, "/history.json", ""))["series"][0]["name"] == "orders");
}

#[test]
fn metrics_come_in_the_format_that_accept_asks_for() {
    let served = Served::start(status());
    let plain = get(&served, "/metrics", "");
    assert_eq!(header(&plain, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(body(&plain).contains("fluffle_consume_prefetch{queue=\"orders\"}"), "{plain}");
    assert!(!body(&plain).ends_with("# EOF\n"));
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let (first, second) = accept.split_once(',').unwrap();
    for headers in [format!("Accept: {accept}\n"), format!("Accept: {first}\nAccept: {second}\n")] {
        let open = get(&served, "/metrics", &headers);
        assert_eq!(header(&open, "content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(body(&open).ends_with("# EOF\n"), "{open}");
    }
    assert_eq!(header(&plain, "vary"), Some("accept"), "a cache must not give one for the other");
}

#[test]
fn probes_say_ok_or_one_reason_a_line() {
    let served = Served::start(status());
    assert_eq!((code(&get(&served, "/live", "")), body(&get(&served, "/live", ""))), (200, "ok\n"));
    assert_eq!(body(&get(&served, "/ready", "")), "ok\n");
    served.broker.kill().unwrap();
    until("the connections are away", || code(&get(&served, "/ready", "")) == 503);
    until("a reason for each connection", || {
        let ready = get(&served, "/ready", "");
        let lines: Vec<_> = body(&ready).lines().collect();
        lines.iter().all(|line| line.contains(": "))
            && lines.iter().filter(|l| l.starts_with("connection")).count() == 2
    });
    assert_eq!(code(&get(&served, "/live", "")), 200, "readiness is not liveness");
    served.broker.start_again().unwrap();
    until("it is ready again", || body(&get(&served, "/ready", "")) == "ok\n");
    served.block_on(served.service.shutdown()).unwrap();
    let live = get(&served, "/live", "");
    assert!(code(&live) == 503 && body(&live).starts_with("service: has ended"), "{live}");
    assert!(body(&get(&served, "/metrics", "")).contains("fluffle_build_info"), "the last values can be scraped");
}

#[test]
fn before_its_service_is_started_a_server_says_so() {
    let server = Telemetry::new().serve(status()).unwrap();
    let address = server.address();
    let ask = |path: &str| {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/live", "/ready"] {
        assert!(code(&ask(path)) == 503 && ask(path).contains("not started yet"), "{path}");
    }
    for path in ["/picture.json", "/history.json"] {
        assert_eq!((code(&ask(path)), body(&ask(path))), (200, "null"), "{path}");
    }
    assert_eq!(code(&ask("/")), 200, "the page waits for the first picture");
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let served = Served::start(status());
    for path in ["/", "/picture.json", "/metrics", "/live", "/events"] {
        let (head, is_whole) = (request(&served, "HEAD", path, ""), "/events" != path);
        assert_eq!((code(&head), body(&head)), (200, ""), "{path}");
        assert_eq!(header(&head, "content-length").is_some_and(|length| length != "0"), is_whole, "{path}: {head}");
    }
}

#[test]
fn a_wrong_method_and_a_wrong_path_are_answered_in_words() {
    let served = Served::start(status());
    let wrong = request(&served, "DELETE", "/live", "");
    assert_eq!((code(&wrong), header(&wrong, "allow")), (405, Some("GET, HEAD")));
    assert!(body(&wrong).contains("GET, HEAD"), "{wrong}");
    let read = get(&served, "/actions/pause", "");
    assert_eq!((code(&read), header(&read, "allow")), (405, Some("POST")));
    let nothing = get(&served, "/nothing", "");
    assert_eq!(code(&nothing), 404);
    assert!(body(&nothing).contains("/metrics"), "{nothing}");
    let host = served.host();
    let absolute = format!("GET http://evil.example/ HTTP/1.1\nHost: {host}\nConnection: close\n\n");
    assert_eq!(code(&exchange(&served, &absolute, b"")), 404, "a proxy's form of a request is not served");
}

#[test]
fn a_second_server_on_the_port_is_told_where_to_look() {
    let served = Served::start(status());
    let error = served.telemetry.serve(served.host()).unwrap_err();
    assert!(matches!(error, StatusError::Bind { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains(&format!("ss -ltnp 'sport = :{}'", served.port())), "{words}");
    // An application gets it as an error too, from inside its own runtime.
    let app = App::new(served.broker.client().unwrap()).status(served.host());
    let error = served.block_on(app.start()).err().expect("the port is taken").to_string();
    assert!(error.contains("ss -ltnp"), "{error}");
}

#[test]
fn the_end_is_quick_although_readers_follow_and_the_port_is_free_after_it() {
    let mut served = Served::start(status());
    let address = served.host();
    let mut reader = connect(&served);
    reader.write_all(format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    reader.read_exact(&mut [0; 12]).unwrap();
    let begun = Instant::now();
    drop(served.server.take());
    assert!(begun.elapsed().as_millis() < 900, "{:?}: the stream did not end with the server", begun.elapsed());
    drop(served.telemetry.serve(address).unwrap());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the stream ends as HTTP says: {rest:?}");
}

#[test]
fn the_page_of_an_application_goes_on_until_its_service_has_ended_and_says_so() {
    let served = Served::start(status());
    let telemetry = served.telemetry.clone();
    let address = telemetry.serve_until_the_end("127.0.0.1:0").unwrap();
    let mut reader = std::net::TcpStream::connect(address).unwrap();
    write!(reader, "GET /events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    drop(served);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert!(all.contains("\"state\":\"ended\"") && all.ends_with("0\r\n\r\n"), "{all}");
    until("the port is closed", || std::net::TcpStream::connect(address).is_err());
}

#[test]
fn routes_answer_without_a_socket() {
    let served = Served::start(status());
    let routes = served.telemetry.routes("127.0.0.1:8080").unwrap();
    let peer = "127.0.0.1:1".parse().unwrap();
    let ask = |method: &str, path: &str, host: &str| {
        let request = Request::builder().method(method).uri(path).header("host", host).body(Bytes::new()).unwrap();
        served.block_on(routes.answer(&request, peer))
    };
    let mut head = ask("HEAD", "/", "localhost:8080").into_body();
    assert!(served.block_on(head.next()).is_none());
    assert_eq!(ask("GET", "/", "evil.example:8080").status(), 421);
    let mut events = ask("GET", "/events", "localhost:8080").into_body();
    let first = served.block_on(events.next()).unwrap().unwrap();
    assert!(first.starts_with(b"{\"at\":") && first.ends_with(b"}\n"), "{first:?}");
}
