//! What a person sees and opens.

use std::time::Duration;

use fantoccini::key::Key;

use crate::{
    service::{Site, reads},
    view::View,
};

#[actix::test]
async fn the_page_shows_tree_queues_publishers_connections_threads_and_ledger() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.feed(Duration::from_millis(4));
    view.goto(&site.address()).await;
    view.shows("#headline", "All is well").await;
    assert_eq!(view.text("#name").await, "quakes");
    assert_eq!(view.eval("document.title").await, "quakes · Fluffle");
    view.shows(".ledger-verdict", "Nothing is missing").await;

    for node in ["app", "handlers", "readings", "publish-0", "consume-0", "socket"] {
        let names = "[...document.querySelectorAll('.node-name')].map((one) => one.innerText)";
        view.until(&format!("{names}.includes('{node}')")).await;
    }
    // Closed, a branch says how much is below it.
    let row = "[...document.querySelectorAll('.node')].find((one) => one.innerText.includes('handlers'))";
    view.eval(&format!("{row}.querySelector('.toggle').click()")).await;
    view.until(&format!("{row}.innerText.includes('below')")).await;
    view.eval(&format!("{row}.querySelector('.toggle').click()")).await;
    view.until(&format!("!{row}.innerText.includes('below')")).await;

    view.shows("#queues-count", "2").await;
    view.shows(".card .name", "readings").await;
    view.shows(".card .state-words", "consuming").await;
    view.shows(".card .outcomes", "handled").await;
    view.see("#publishers").await;
    view.shows("#publishers-list h3", "readings/copies").await;
    view.shows("#connections-count", "2 of 2 up").await;
    view.shows("#connections-list", "127.0.0.1").await;
    view.shows("#threads-list .name", "io").await;
    view.shows("#ledgers-count", "balanced").await;
    view.shows("#ledgers-list .ledger-row", "✓").await;

    // It lives: the numbers change by themselves.
    let received = "document.querySelector('#ledger .equation').innerText";
    let before = view.eval(received).await;
    view.until(&format!("{received} !== {before}")).await;
    view.assert_quiet().await;
    site.end().await;
}

#[actix::test]
async fn a_queue_opens_to_its_messages_each_with_its_waterfall_and_without_its_content() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.feed(Duration::from_millis(10));
    site.publish(&["slow", "reject: no such sensor"]).await;
    view.goto(&site.address()).await;
    let card = "[...document.querySelectorAll('.card')].find((one) => one.innerText.includes('readings'))";
    view.until(&format!("{card}?.querySelector('.outcomes').innerText.includes('dead lettered')")).await;
    view.eval(&format!("{card}.querySelector('.disclose').click()")).await;
    view.shows(".group h4", "Slowest").await;
    view.shows(".group h4", "Failed").await;
    let failed = "[...document.querySelectorAll('.group')].find((one) => one.innerText.startsWith('Failed'))";
    view.eval(&format!("{failed}.querySelector('summary').click()")).await;
    view.shows(".message[open] .failure", "no such sensor").await;
    view.shows(".message[open] .waterfall", "handle").await;
    view.shows(".message[open] .copied", "id").await;
    assert_eq!(view.eval("document.querySelectorAll('.message[open] .detail').length").await, 0, "no formatter");
    // The group stands still while a message is open.
    view.shows(".held", "stands still").await;
    let slow = "[...document.querySelectorAll('.group')].find((one) => one.innerText.startsWith('Slowest'))";
    let longest = view.eval(&format!("{slow}.querySelector('.total').innerText")).await;
    assert!(longest.as_str().unwrap().contains("ms"), "{longest}");
    view.assert_quiet().await;
    view.shot("messages").await;
    site.end().await;
}

#[actix::test]
async fn everything_can_be_reached_by_keyboard() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.feed(Duration::from_millis(20));
    view.goto(&site.address()).await;
    view.shows("#headline", "All is well").await;
    let focus = "document.activeElement";

    view.key(Key::Tab).await;
    view.until(&format!("{focus}.classList.contains('skip')")).await;
    view.until(&format!("{focus}.getBoundingClientRect().top >= 0")).await;
    view.keys("j").await;
    view.until(&format!("{focus}.classList.contains('disclose')")).await;
    let first = view.eval(&format!("{focus}.innerText")).await;
    view.keys("j").await;
    view.until(&format!("{focus}.innerText !== {first}")).await;
    view.keys("k").await;
    view.until(&format!("{focus}.innerText === {first}")).await;
    // The focus can be seen.
    let outline = view.eval(&format!("getComputedStyle({focus}).outlineStyle")).await;
    assert_ne!(outline, "none");
    view.key(Key::Enter).await;
    view.until(&format!("{focus}.getAttribute('aria-expanded') === 'true'")).await;
    view.until("document.querySelector('.messages:not([hidden])')").await;

    view.keys("t").await;
    view.until(&format!("document.querySelector('#tree').contains({focus})")).await;
    let toggled = view.eval(&format!("{focus}.getAttribute('aria-expanded')")).await;
    assert_eq!(toggled, "true");
    view.key(Key::Enter).await;
    view.until(&format!("{focus}.getAttribute('aria-expanded') === 'false'")).await;

    view.keys("f").await;
    view.until("document.querySelector('#hold').getAttribute('aria-pressed') === 'true'").await;
    view.shows("#news-words", "held at").await;
    view.keys("f").await;
    view.shows("#news-words", "live").await;
    view.keys("?").await;
    view.until("document.querySelector('#dialog').open").await;
    view.shows("#dialog", "next queue").await;
    view.key(Key::Escape).await;
    view.until("!document.querySelector('#dialog').open").await;

    // With the tabulator alone one comes around, and never to something that has no name.
    let mut stops = std::collections::BTreeSet::new();
    for _ in 0..60 {
        view.key(Key::Tab).await;
        let name = view.eval(&format!("{focus}.getAttribute('aria-label') ?? {focus}.innerText")).await;
        let name = name.as_str().unwrap_or_default().trim().to_owned();
        let tag = view.eval(&format!("{focus}.tagName")).await;
        assert!(!name.is_empty(), "a {tag} without a name has the focus");
        stops.insert(name);
    }
    assert!(stops.len() > 8, "{stops:?}");
    view.assert_quiet().await;
    site.end().await;
}
