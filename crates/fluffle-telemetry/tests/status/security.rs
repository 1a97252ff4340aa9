//! Attacks on the server, and settings that would be an invitation.

use fluffle_telemetry::{
    Telemetry,
    status::{Action, Status, StatusError},
};

use crate::{
    client::{body, code, exchange, get, get_from, header, post, request, right},
    service::{Served, TOKEN, exposed, status, until, with_actions},
};

pub const PAUSE: &str = "{\"queue\":\"orders\"}";

#[test]
fn a_foreign_host_reads_nothing() {
    let served = Served::start(status());
    let port = served.port();
    for path in ["/", "/picture.json", "/history.json", "/events", "/metrics", "/live", "/ready", "/nothing"] {
        for foreign in [
            format!("evil.example:{port}"),
            format!("localhost.evil.example:{port}"),
            format!("localhost@evil.example:{port}"),
            format!("192.0.2.1:{port}"),
            String::new(),
        ] {
            let answer = get_from(&served, &foreign, path);
            assert!([400, 421].contains(&code(&answer)), "{path} for {foreign:?}: {answer}");
            assert!(!answer.contains("orders"), "{path} for {foreign:?}: {answer}");
        }
    }
    // A port that is forwarded has another number.
    for known in [format!("LOCALHOST:{port}"), format!("[::1]:{port}"), "127.0.0.2:1".to_owned()] {
        assert_eq!(code(&get_from(&served, &known, "/live")), 200, "{known}");
    }
}

#[test]
fn a_request_with_two_hosts_or_none_is_refused() {
    let served = Served::start(status());
    let host = served.host();
    let two = format!("GET /live HTTP/1.1\nHost: {host}\nHost: evil.example\nConnection: close\n\n");
    assert_eq!(code(&exchange(&served, &two, b"")), 400);
    assert_eq!(code(&exchange(&served, "GET /live HTTP/1.1\nConnection: close\n\n", b"")), 400);
}

#[test]
fn a_name_that_the_application_allows_is_answered() {
    let served = Served::start(status().allow_host("status.example.org"));
    for host in ["status.example.org", "Status.Example.Org:1", "status.example.org:443"] {
        assert_eq!(code(&get_from(&served, host, "/live")), 200, "{host}");
    }
    assert_eq!(code(&get_from(&served, "more.status.example.org", "/live")), 421);
    for wrong in ["https://status.example.org", "*.example.org", "a:80", "", "a b"] {
        let error = Telemetry::new().serve(status().allow_host(wrong)).unwrap_err();
        assert!(matches!(error, StatusError::Host(_)), "{wrong}: {error:?}");
    }
}

#[test]
fn an_action_from_a_foreign_origin_is_refused() {
    let served = Served::start(with_actions());
    let host = served.host();
    for origin in [
        "Origin: http://evil.example\n".to_owned(),
        "Origin: null\n".to_owned(),
        format!("Origin: http://{host}.evil.example\n"),
        format!("Origin: ftp://{host}\n"),
        format!("Origin: http://{host}\nOrigin: http://evil.example\n"),
        "Origin: http://127.0.0.1:1\n".to_owned(),
        String::new(),
    ] {
        let headers = format!("{origin}Authorization: Bearer {TOKEN}\n");
        let answer = post(&served, "/actions/pause", &headers, PAUSE);
        assert_eq!(code(&answer), 403, "{origin:?}: {answer}");
    }
    assert!(!served.is_paused());
}

#[test]
fn an_action_without_the_token_is_refused() {
    let served = Served::start(with_actions());
    let origin = format!("Origin: http://{}\n", served.host());
    let longer = format!("Authorization: Bearer {TOKEN}0\n");
    let shorter = format!("Authorization: Bearer {}\n", &TOKEN[1..]);
    let basic = format!("Authorization: Basic {TOKEN}\n");
    for wrong in ["", "Authorization: Bearer \n", &longer, &shorter, &basic] {
        let answer = post(&served, "/actions/pause", &format!("{origin}{wrong}"), PAUSE);
        assert_eq!(code(&answer), 401, "{wrong:?}: {answer}");
        assert_eq!(header(&answer, "www-authenticate"), Some("Bearer realm=\"fluffle status\""));
        assert!(!answer.contains(TOKEN));
    }
    assert!(!served.is_paused());
}

#[test]
fn an_action_that_is_not_switched_on_is_refused() {
    let served = Served::start(status().token(TOKEN).allow([Action::Resume]));
    for action in ["pause", "resume_breaker", "replay", "kill"] {
        let answer = post(&served, &format!("/actions/{action}"), &right(&served), PAUSE);
        assert_eq!(code(&answer), 403, "{action}");
        assert!(body(&answer).contains("Status::allow"), "{answer}");
    }
    assert!(!served.is_paused());
    assert_eq!(code(&post(&served, "/actions/resume", &right(&served), PAUSE)), 200);
    assert_eq!(code(&post(&served, "/actions/nothing", &right(&served), PAUSE)), 404);
}

#[test]
fn a_body_that_a_form_can_send_or_that_is_wrong_is_refused() {
    let served = Served::start(with_actions());
    for wrong in ["", "[]", "{}", "{\"queue\":1}", "{\"queue\":\"orders\",\"more\":1}"] {
        assert_eq!(code(&post(&served, "/actions/pause", &right(&served), wrong)), 400, "{wrong}");
    }
    for kind in ["", "Content-Type: text/plain\n", "Content-Type: application/x-www-form-urlencoded\n"] {
        let head = format!(
            "POST /actions/pause HTTP/1.1\nHost: {}\nConnection: close\n{kind}Content-Length: {}\n{}\n",
            served.host(),
            PAUSE.len(),
            right(&served)
        );
        assert_eq!(code(&exchange(&served, &head, PAUSE.as_bytes())), 415, "{kind}");
    }
    assert!(!served.is_paused());
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let served = Served::start(with_actions());
    let large = format!("{PAUSE}{}", " ".repeat(4097 - PAUSE.len()));
    assert_eq!(code(&post(&served, "/actions/pause", &right(&served), &large)), 413);
    assert!(!served.is_paused());
    assert_eq!(code(&post(&served, "/actions/pause", &right(&served), &large[..4096])), 200);
    assert!(served.is_paused());
}

#[test]
fn an_address_of_other_hosts_needs_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = Telemetry::new().serve(address).unwrap_err();
        assert!(matches!(error, StatusError::Open(_)), "{error:?}");
        let words = error.to_string();
        assert!(words.contains("Status::token") && words.contains("127.0.0.1"), "{words}");
        assert!(Telemetry::new().routes(address).is_err(), "nor where an application serves the page itself");
    }
}

#[test]
fn actions_need_a_token() {
    let error = Telemetry::new().serve(status().allow([Action::Pause])).unwrap_err();
    assert!(matches!(error, StatusError::Actions(_)), "{error:?}");
}

#[test]
fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_none_is_shown() {
    for wrong in ["short", "with a space in it 0123456789", "with-a-line-break-0123456789\n", &"x".repeat(257)] {
        let error = Telemetry::new().serve(status().token(wrong)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(wrong), "{error}");
    }
    let shown = format!("{:?}", with_actions());
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[test]
fn other_hosts_read_with_the_token_only() {
    let served = Served::start(exposed());
    let bearer = format!("Authorization: Bearer {TOKEN}\n");
    for path in ["/picture.json", "/history.json", "/metrics", "/events"] {
        let without = get(&served, path, "");
        assert_eq!((code(&without), without.contains("orders")), (401, false), "{path}: {without}");
        assert_eq!(code(&request(&served, "HEAD", path, &bearer)), 200, "{path}");
    }
    let login = get(&served, "/", "");
    assert_eq!(code(&login), 401);
    assert!(body(&login).contains("<form") && !login.contains("orders"), "{login}");
    let policy = header(&login, "content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
    assert!(get(&served, "/", &bearer).contains("orders"));
}

#[test]
fn a_probe_of_other_hosts_has_no_token_and_gets_no_names() {
    let served = Served::start(exposed());
    assert_eq!((code(&get(&served, "/live", "")), code(&get(&served, "/ready", ""))), (200, 200));
    served.broker.kill().unwrap();
    let bearer = format!("Authorization: Bearer {TOKEN}\n");
    // The broker stays away, so that the findings stay.
    until("the connections are away", || {
        let with = get(&served, "/ready", &bearer);
        code(&with) == 503 && with.contains("connection consume-0")
    });
    let without = get(&served, "/ready", "");
    assert_eq!((code(&without), without.contains("consume-0")), (503, false), "{without}");
    assert!(body(&without).contains("send the token"), "{without}");
}

#[test]
fn other_hosts_scrape_without_the_token_if_the_application_says_so() {
    let served = Served::start(exposed().metrics_without_token());
    assert_eq!(code(&get(&served, "/metrics", "")), 200);
    assert_eq!(code(&get(&served, "/picture.json", "")), 401);
}

#[test]
fn an_exposed_server_takes_addresses_and_no_foreign_names() {
    let served = Served::start(exposed());
    let port = served.port();
    assert_eq!(code(&get_from(&served, &format!("10.1.2.3:{port}"), "/live")), 200, "probes come by the pod's address");
    assert_eq!(code(&get_from(&served, &format!("evil.example:{port}"), "/live")), 421);
}

#[test]
fn a_login_gives_a_cookie_that_reads_but_does_not_act() {
    let served = Served::start(exposed().allow([Action::Pause]));
    let wrong = post(&served, "/login", "", "token=wrong\r\n");
    assert_eq!((code(&wrong), header(&wrong, "set-cookie")), (401, None));
    let answer = post(&served, "/login", "Origin: null\n", &format!("token={TOKEN}\r\n"));
    assert_eq!((code(&answer), header(&answer, "location")), (303, Some("./")));
    let cookie = header(&answer, "set-cookie").unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let cookie = format!("Cookie: other=1; {pair}\n");
    for path in ["/", "/picture.json", "/metrics"] {
        assert_eq!(code(&get(&served, path, &cookie)), 200, "{path}");
    }
    assert_eq!(code(&get(&served, "/picture.json", &cookie.replace(pair, &pair[..pair.len() - 1]))), 401);
    let act = format!("Origin: http://{}\n{cookie}", served.host());
    assert_eq!(code(&post(&served, "/actions/pause", &act, PAUSE)), 401);
    assert!(!served.is_paused());
}

#[test]
fn where_reading_is_open_there_is_no_login() {
    let served = Served::start(with_actions());
    let answer = post(&served, "/login", "", &format!("token={TOKEN}\r\n"));
    assert_eq!((code(&answer), header(&answer, "set-cookie")), (404, None), "{answer}");
}

#[test]
fn an_address_is_an_ip_address_and_a_port() {
    for wrong in ["9464", "example.org:80", "127.0.0.1", ":9464", ""] {
        let error = Telemetry::new().serve(Status::on(wrong)).unwrap_err();
        assert!(matches!(error, StatusError::Address(_)), "{wrong}: {error:?}");
    }
}
