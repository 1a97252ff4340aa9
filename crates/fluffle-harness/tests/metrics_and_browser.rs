//! Prometheus, Pushgateway and Chromium, each once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use fantoccini::{ClientBuilder, Locator};
use fluffle_harness::{Browser, HarnessError, Prometheus, Pushgateway, promtool};
use hyper_util::client::legacy::connect::HttpConnector;

const LIMIT: Duration = Duration::from_secs(20);

const TEXT: &str = "# HELP answers_total Answers.\n# TYPE answers_total counter\nanswers_total{to=\"a b\"} 42\n";

#[test]
fn prometheus_scrapes_answers_reloads_and_leaves_nothing() {
    let port = serve("text/plain", TEXT);
    let prometheus = Prometheus::start(&config("first", port)).unwrap();
    prometheus.wait_until_up("first", LIMIT).unwrap();
    let answer = prometheus.query("answers_total{to=\"a b\"} + 1").unwrap();
    assert_eq!(answer[0]["value"][1], "43", "{answer}");
    let error = prometheus.query("sum(").unwrap_err().to_string();
    assert!(error.contains("parse error"), "{error}");

    prometheus.reload(&config("second", port)).unwrap();
    prometheus.wait_until_up("second", LIMIT).unwrap();
    assert!(matches!(prometheus.reload("no: such"), Err(HarnessError::BadAnswer { .. })));
    let error = prometheus.wait_until_up("first", Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, HarnessError::Timeout { .. }), "{error}");

    let folder = prometheus.folder().to_path_buf();
    assert!(runs_in(&folder));
    drop(prometheus);
    assert!(!folder.exists() && !runs_in(&folder), "the server ended and its folder is gone");
}

#[test]
fn a_prometheus_that_cannot_start_shows_what_it_said() {
    let error = Prometheus::start("scrape_configs: 7").unwrap_err();
    let HarnessError::BootFailed { why, log, .. } = error else { panic!("{error}") };
    assert!(why.contains("ended during boot") && log.contains("cannot unmarshal"), "{why}: {log}");
}

#[test]
fn promtool_reads_its_input_and_its_verdict_is_in_the_status() {
    assert!(promtool(&["check", "metrics"], TEXT).unwrap().status.success());
    let bad = promtool(&["check", "metrics"], "answers 1\n").unwrap();
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("no help text"));
}

#[test]
fn a_pushgateway_keeps_what_was_pushed_and_refuses_what_it_cannot_read() {
    let gateway = Pushgateway::start().unwrap();
    gateway.push("nightly", TEXT).unwrap();
    let text = gateway.metrics().unwrap();
    assert!(text.contains("answers_total{instance=\"\",job=\"nightly\",to=\"a b\"} 42"), "{text}");
    assert!(matches!(gateway.push("nightly", "no metrics\n"), Err(HarnessError::BadAnswer { .. })));
    drop(gateway);
    let text = Pushgateway::start().unwrap().metrics().unwrap();
    assert!(!text.contains("answers_total"), "another gateway begins with nothing: {text}");
}

#[test]
fn a_browser_shows_a_page_and_ends_with_its_driver() {
    let port = serve("text/html", "<title>seen</title><h1>before</h1><script>document.title += ' run'</script>");
    let browser = Browser::start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let profiles = runtime.block_on(async {
        let wanted = browser.capabilities().as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(wanted).connect(&browser.url()).await.unwrap();
        client.goto(&format!("http://127.0.0.1:{port}/")).await.unwrap();
        assert_eq!(client.title().await.unwrap(), "seen run");
        assert_eq!(client.find(Locator::Css("h1")).await.unwrap().text().await.unwrap(), "before");
        let capabilities = client.capabilities().unwrap();
        capabilities["chrome"]["userDataDir"].as_str().unwrap().to_owned()
    });
    // The session is not closed, as in a test that fails.
    assert!(runs_in(Path::new(&profiles)));
    drop(browser);
    let deadline = Instant::now() + LIMIT;
    while runs_in(Path::new(&profiles)) {
        assert!(Instant::now() < deadline, "a browser outlives its driver");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!Path::new(&profiles).exists());
}

fn config(job: &str, port: u16) -> String {
    format!(
        "scrape_configs: [{{job_name: {job}, scrape_interval: 100ms, scrape_timeout: 100ms, \
         static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]"
    )
}

/// Whether a process has this folder in its command line.
fn runs_in(folder: &Path) -> bool {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    processes.filter_map(|path| std::fs::read(path).ok()).any(|line| String::from_utf8_lossy(&line).contains(folder))
}

/// Answers each request with this text, until the test's process ends.
fn serve(kind: &'static str, text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", text.len());
                let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{text}").as_bytes());
            });
        }
    });
    port
}
