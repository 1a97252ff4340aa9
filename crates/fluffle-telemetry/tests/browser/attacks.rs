//! Pages of other sites, opened in the browser that also has the status page.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use crate::{
    service::{Site, TOKEN, acts, reads},
    view::View,
};

/// Serves a page on a port of its own, until the test's process ends. Its address is another origin than the status
/// page's, and the same site, which is the most that an attacker's page can be.
fn evil(page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { continue };
            let _ = socket.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n", page.len());
            let _ = socket.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes());
        }
    });
    address
}

/// Knows the token, the address and the names: what it lacks is the right origin.
const SCRIPT: &str = r#"<!doctype html><title>evil</title><body>
<script>
  const page = "{page}";
  const out = (window.out = {});
  const attempt = async (name, act) => {
    try { out[name] = String(await act()); } catch (error) { out[name] = `refused: ${error.name}`; }
  };
  const body = JSON.stringify({ queue: "readings" });
  const load = (tag, address) => new Promise((done) => {
    const node = document.createElement(tag);
    node.onload = () => done("loaded");
    node.onerror = () => done("refused");
    node.src = address;
    document.body.append(node);
  });
  const all = [
    attempt("read", async () => (await fetch(page + "picture.json")).text()),
    attempt("read with the token", async () =>
      (await fetch(page + "picture.json", { headers: { Authorization: "Bearer {token}" } })).text()),
    attempt("read without cors", async () => (await fetch(page + "picture.json", { mode: "no-cors" })).type),
    attempt("pause", async () => (await fetch(page + "actions/pause", { method: "POST", body,
      headers: { "Content-Type": "application/json", Authorization: "Bearer {token}" } })).text()),
    attempt("pause as a form", async () => (await fetch(page + "actions/pause", { method: "POST", body,
      mode: "no-cors", credentials: "include" })).type),
    attempt("events", () => new Promise((done) => {
      const events = new EventSource(page + "events");
      events.onmessage = () => done("heard");
      events.onopen = () => done("open");
      events.onerror = () => done("refused");
    })),
    attempt("script", () => load("script", page + "picture.json")),
    attempt("image", () => load("img", page)),
    attempt("frame", async () => {
      const frame = document.createElement("iframe");
      frame.src = page;
      const loaded = new Promise((done) => (frame.onload = done));
      document.body.append(frame);
      await loaded;
      return frame.contentDocument ? frame.contentDocument.body.innerText : "out of reach";
    }),
  ];
  Promise.all(all).then(() => (window.isDone = true));
</script>"#;

#[actix::test]
async fn a_page_of_another_origin_reads_nothing_and_does_nothing() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.feed(Duration::from_millis(20));
    // The browser has the status page open too, as its reader does.
    view.goto(&site.address()).await;
    view.shows("#headline", "All is well").await;
    let address = evil(SCRIPT.replace("{page}", &site.address()).replace("{token}", TOKEN));
    view.goto(&address).await;
    view.until("window.isDone").await;
    let out = view.eval("window.out").await;
    let out = out.as_object().unwrap();
    assert_eq!(out.len(), 9, "{out:?}");
    for (name, came) in out {
        let came = came.as_str().unwrap();
        assert!(!came.contains("readings"), "{name}: {came}");
        let is_refused = came.starts_with("refused") || ["frame"].contains(&name.as_str());
        assert!(is_refused, "{name}: {came}");
    }
    // The browser shows its own words in place of the page.
    assert_eq!(out["frame"], "out of reach");
    let said = view.console().await.join("\n");
    assert!(said.contains("frame-ancestors") || said.contains("X-Frame-Options"), "{said}");
    assert!(!site.is_paused());
    // A form that the reader is made to send arrives, and is refused by the server.
    let form = format!(
        "<!doctype html><form method=post enctype=text/plain action=\"{}actions/pause\">\
         <input name='{{\"queue\":\"readings\"' value='}}'></form><script>document.forms[0].submit()</script>",
        site.address()
    );
    view.goto(&evil(form)).await;
    view.shows("body", "actions are for this server's own page").await;
    assert!(!site.is_paused());
    site.end().await;
}

/// DNS rebinding: the attacker's own name leads to this host, and the browser takes the status page for the attacker's.
#[actix::test]
async fn a_foreign_name_that_leads_to_the_server_gets_nothing() {
    let site = Site::start(reads()).await;
    let view = View::open_with(&["--host-resolver-rules=MAP evil.example 127.0.0.1"]).await;
    view.goto(&format!("http://evil.example:{}/", site.port())).await;
    view.shows("body", "this host is not one of this server's").await;
    // The refusal has a policy too, which forbids a script of the attacker's to connect at all.
    let read = "fetch('/picture.json').then((answer) => answer.text(), String).then((text) => (window.came = text))";
    view.eval(&format!("void {read}")).await;
    view.until("window.came").await;
    let came = view.eval("window.came").await;
    assert!(!came.as_str().unwrap().contains("readings"), "{came}");
    for path in ["picture.json", "events", "metrics", "live"] {
        view.goto(&format!("http://evil.example:{}/{path}", site.port())).await;
        view.shows("body", "this host is not one of this server's").await;
    }
    site.end().await;
}
