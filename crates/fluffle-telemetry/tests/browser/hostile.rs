//! A service whose names, messages and errors are HTML. None of it may become a part of the page.

use fluffle::prelude::*;
use fluffle_telemetry::Telemetry;

use crate::{
    service::{Site, reads},
    view::View,
};

const QUEUE: &str = "<img src=x onerror=\"window.pwned='queue'\">";
const ID: &str = "<script>window.pwned='id'</script>";
const ERROR: &str = "</script><svg onload=\"window.pwned='error'\"> {{script}} <!-- javascript:alert(1)";
const SECRET: &str = "the-content-of-a-message";

async fn open(site: &Site, view: &View) {
    let text = format!("reject: {ERROR}");
    let message = MessageOptions::new().id(ID).header("x-evil", "<b onmouseover=alert(1)>");
    site.readings.publish_with(text, message).await.unwrap();
    site.publish(&[SECRET]).await;
    site.picture("both were handled", |picture| {
        let queue = picture.queues.iter().find(|queue| queue.name == "readings").unwrap();
        queue.messages.len() >= 2
    })
    .await;
    view.goto(&site.address()).await;
    view.shows(".card .name", QUEUE).await;
    view.eval("document.querySelectorAll('.disclose').forEach((one) => one.click())").await;
    // What the first document had no room for comes when the card is seen.
    view.eval("[...document.querySelectorAll('.card')].at(-1).scrollIntoView()").await;
    view.until("document.querySelectorAll('.message').length >= 2").await;
    view.eval("document.querySelectorAll('.message').forEach((one) => (one.open = true))").await;
    view.shows(".message[open] .failure", ERROR).await;
    view.shows(".message[open] .id", ID).await;
}

async fn assert_harmless(view: &View) {
    assert_eq!(view.eval("window.pwned ?? null").await, serde_json::Value::Null);
    assert_eq!(view.eval("document.querySelectorAll('img, iframe, object, embed, b[onmouseover]').length").await, 0);
    assert_eq!(view.eval("document.querySelectorAll('script').length").await, 4, "the page's own");
    assert_eq!(view.eval("document.querySelectorAll('svg[onload]').length").await, 0);
    view.assert_quiet().await;
}

#[actix::test]
async fn hostile_texts_are_shown_as_they_are_and_contents_not_at_all() {
    let (site, view) = (Site::start_with(reads(), Telemetry::new(), &[QUEUE]).await, View::open().await);
    open(&site, &view).await;
    assert_harmless(&view).await;
    view.shot("hostile").await;
    // Neither in what is shown nor in what was sent.
    let shown = view.eval("document.documentElement.innerHTML").await;
    assert!(!shown.as_str().unwrap().contains(SECRET));
    let read = "fetch('/picture.json').then((answer) => answer.text()).then((text) => (window.came = text))";
    view.eval(&format!("void {read}")).await;
    view.until("window.came").await;
    let came = view.eval("window.came").await;
    let came = came.as_str().unwrap();
    assert!(came.contains("readings") && !came.contains(SECRET) && !came.contains("x-evil"), "{came}");
    site.end().await;
}

#[actix::test]
async fn what_the_application_says_of_a_message_is_text_too() {
    let telemetry = Telemetry::new().describe_messages(|attempt| {
        Some(format!("<img src=x onerror=\"window.pwned='detail'\"> {} bytes", attempt.body.len()))
    });
    let (site, view) = (Site::start_with(reads(), telemetry, &[QUEUE]).await, View::open().await);
    open(&site, &view).await;
    view.shows(".message[open] .detail", "<img src=x onerror=\"window.pwned='detail'\">").await;
    assert_harmless(&view).await;
    site.end().await;
}
