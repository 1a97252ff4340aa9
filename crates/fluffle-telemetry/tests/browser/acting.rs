//! What a person does to the service: each action is asked for, confirmed, and seen.

use std::{sync::atomic::Ordering, time::Duration};

use fluffle_telemetry::status::{Action, Status};

use crate::{
    service::{Site, TOKEN, acts, reads},
    view::View,
};

const CARD: &str = "[...document.querySelectorAll('.card')].find((one) => one.innerText.includes('readings'))";

/// Clicks on the button of a dialog.
async fn press(view: &View, words: &str) {
    let button = format!("[...document.querySelectorAll('#dialog button')].find((one) => one.innerText === '{words}')");
    view.until(&format!("{button} && !{button}.disabled && !{button}.hidden")).await;
    view.eval(&format!("{button}.click()")).await;
}

/// Clicks on an action of the card of `readings`.
async fn choose(view: &View, action: &str) {
    let button = format!("{CARD}?.querySelector('.action[aria-label=\"{action} readings\"]')");
    view.until(&format!("{button} && !{button}.hidden")).await;
    view.eval(&format!("{button}.click()")).await;
    view.until("document.querySelector('#dialog').open").await;
}

#[actix::test]
async fn a_queue_is_paused_and_resumed_after_the_token_was_asked_for_once() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.feed(Duration::from_millis(10));
    view.goto(&site.address()).await;
    choose(&view, "Pause").await;
    // The focus is on the button that does nothing.
    assert_eq!(view.eval("document.activeElement.innerText").await, "Cancel");
    press(&view, "Cancel").await;
    assert!(!site.is_paused());

    choose(&view, "Pause").await;
    view.shot("pause").await;
    view.click("#dialog input").await;
    view.keys("not the token").await;
    press(&view, "Pause").await;
    view.shows("#dialog .result", "token").await;
    assert!(!site.is_paused());
    view.until("document.activeElement.classList.contains('token')").await;
    view.keys(TOKEN).await;
    press(&view, "Pause").await;
    view.shows("#dialog .result", "are paused").await;
    press(&view, "Close").await;
    view.until(&format!("{CARD}.innerText.includes('paused')")).await;
    assert!(site.is_paused());

    choose(&view, "Resume").await;
    assert_eq!(view.eval("document.querySelector('#dialog form').hidden").await, true, "the token is kept");
    press(&view, "Resume").await;
    view.shows("#dialog .result", "take messages again").await;
    press(&view, "Close").await;
    view.until(&format!("{CARD}.querySelector('.state-words').innerText.includes('consuming')")).await;
    // A refusal is an error in the console of its own accord.
    let said = view.console().await;
    assert!(said.len() == 1 && said[0].contains("401"), "{said:?}");
    site.end().await;
}

#[actix::test]
async fn dead_letters_are_replayed_after_a_dry_run() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.publish(&["reject: no such sensor", "reject: no such place", "reading"]).await;
    view.goto(&site.address()).await;
    view.shows(".letters", "2 dead letters").await;
    view.shows("#findings", "2 dead letters wait").await;
    site.is_mended.store(true, Ordering::SeqCst);
    choose(&view, "Replay").await;
    view.click("#dialog input").await;
    view.keys(TOKEN).await;
    press(&view, "Dry run").await;
    view.shows("#dialog .lines", "letters: 2 looked at: 2 would be replayed").await;
    view.shot("dry-run").await;
    view.shows(".letters", "2 dead letters").await;
    press(&view, "Replay").await;
    view.shows("#dialog .lines", "letters: 2 looked at: 2 replayed").await;
    press(&view, "Close").await;
    view.until(&format!("{CARD}.querySelector('.letters').innerText.includes('0 dead letters')")).await;
    view.assert_quiet().await;
    site.end().await;
}

#[actix::test]
async fn a_killed_node_is_a_story_with_its_recovery_and_nothing_is_missing() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.feed(Duration::from_millis(5));
    view.goto(&site.address()).await;
    let node = "app/consume/consume-0/channels/readings/consumer";
    let kill = format!("document.querySelector('.action[aria-label=\"kill {node}\"]')");
    view.until(&kill).await;
    view.eval(&format!("{kill}.click()")).await;
    view.shows("#dialog", "For demonstrations").await;
    view.click("#dialog input").await;
    view.keys(TOKEN).await;
    press(&view, "Kill").await;
    view.shows("#dialog .result", "was killed").await;
    press(&view, "Close").await;
    let story = format!("[...document.querySelectorAll('.story')].find((one) => one.innerText.includes('{node}'))");
    view.until(&format!("{story}?.innerText.includes('ready again')")).await;
    view.shows(".ledger-verdict", "Nothing is missing").await;
    view.shows("#headline", "All is well").await;
    view.shot("killed").await;
    view.assert_quiet().await;
    site.end().await;
}

#[actix::test]
async fn a_page_without_actions_offers_none() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.publish(&["reject: no such sensor"]).await;
    view.goto(&site.address()).await;
    view.shows(".letters", "1 dead letter").await;
    let shown = "[...document.querySelectorAll('.action')].filter((one) => !one.hidden).length";
    assert_eq!(view.eval(shown).await, 0);
    site.end().await;
}

/// Where other hosts reach the page, a person logs in; the cookie reads, and an action asks for the token again.
#[actix::test]
async fn a_page_that_other_hosts_reach_is_read_after_a_login() {
    let status = Status::on("0.0.0.0:0").token(TOKEN).allow([Action::Pause]);
    let (site, view) = (Site::start(status).await, View::open().await);
    view.goto(&site.address()).await;
    view.shows("body", "needs its token").await;
    assert!(!view.text("body").await.contains("readings"));
    view.shot("login").await;
    view.click("input").await;
    view.keys("wrong").await;
    view.click("button").await;
    view.shows("body", "not the token").await;
    view.client.back().await.unwrap();
    view.until("document.querySelector('form')").await;
    view.eval("document.querySelector('input').value = ''").await;
    view.click("input").await;
    view.keys(TOKEN).await;
    view.click("button").await;
    view.shows(".card .name", "readings").await;
    view.shows("#news-words", "live").await;
    choose(&view, "Pause").await;
    view.click("#dialog input").await;
    view.keys(TOKEN).await;
    press(&view, "Pause").await;
    view.shows("#dialog .result", "are paused").await;
    site.end().await;
}
