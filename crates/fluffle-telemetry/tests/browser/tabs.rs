//! Tabs of one browser share a stream.

use std::{fs, time::Duration};

use crate::{
    service::{Site, reads},
    view::{SOON, View},
};

/// Connections to this port of this host that are open.
fn connections(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&&*local) && row.get(3) == Some(&ESTABLISHED)).count()
}

/// Waits until this many connections are open, for some looks one after the other.
async fn has(port: u16, wanted: usize) {
    let deadline = std::time::Instant::now() + SOON;
    let mut looks = 0;
    while looks < 10 {
        looks = if connections(port) == wanted { looks + 1 } else { 0 };
        assert!(std::time::Instant::now() < deadline, "{} connections, not {wanted}", connections(port));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const NEWS: &str = "document.querySelector('#news-words').innerText";

/// The page says another time than before, and is not stale.
async fn moves(view: &View) {
    let before = view.eval(NEWS).await;
    view.until(format!("{NEWS} !== {before} && {NEWS}.startsWith('live')")).await;
}

#[actix::test]
async fn two_tabs_share_one_stream_and_the_second_goes_on_alone() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.feed(Duration::from_millis(20));
    view.goto(&site.address()).await;
    view.shows("#news-words", "live").await;
    let first = view.client.window().await.unwrap();
    let second = view.client.new_window(true).await.unwrap().handle;
    view.client.switch_to_window(second.clone()).await.unwrap();
    view.goto(&site.address()).await;
    view.shows("#news-words", "live").await;
    // What the pages were fetched over is idle and is closed; what is left is the stream.
    has(site.port(), 1).await;
    moves(&view).await;
    view.client.switch_to_window(first).await.unwrap();
    moves(&view).await;
    // The first tab has the stream. When it is closed, the second one takes over.
    view.client.close_window().await.unwrap();
    view.client.switch_to_window(second).await.unwrap();
    moves(&view).await;
    has(site.port(), 1).await;
    view.assert_quiet().await;
    site.end().await;
}

#[actix::test]
async fn a_page_says_that_it_has_no_news_and_recovers_by_itself() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    site.feed(Duration::from_millis(20));
    view.goto(&site.address()).await;
    view.shows("#news-words", "live").await;
    let port = site.port();
    let Site { server, telemetry, service, .. } = site;
    drop(server);
    view.shows("#news-words", "No news for").await;
    view.until("document.documentElement.classList.contains('stale')").await;
    view.shot("stale").await;
    let server = telemetry.serve(format!("127.0.0.1:{port}")).unwrap();
    view.shows("#news-words", "live").await;
    drop(server);
    tokio::time::timeout(SOON, service.shutdown()).await.expect("in time").unwrap();
}
