//! The page in light and dark, on a desktop and on a phone: in health, in an outage, during restarts.

use std::time::Duration;

use fluffle_telemetry::Telemetry;

use crate::{
    service::{Site, acts, reads},
    view::View,
};

/// Writes pictures of what is to be seen, and asserts that it fits a phone.
async fn look(view: &View, name: &str) {
    for (scheme, width, height) in [("light", 1280, 1600), ("dark", 1280, 1600), ("light", 360, 2400)] {
        view.resize(width, height).await;
        view.colours(scheme).await;
        view.eval("window.scrollTo(0, 0)").await;
        // Two frames: the page draws what has come into sight.
        view.eval("window.drawn = 0, requestAnimationFrame(() => requestAnimationFrame(() => (window.drawn = 1)))")
            .await;
        view.until("window.drawn").await;
        view.shot(&format!("{name}-{scheme}-{width}")).await;
        assert!(!view.overflows().await, "{name} is wider than {width} pixels");
    }
    view.resize(1280, 900).await;
    view.colours("light").await;
}

#[actix::test]
async fn colours_follow_the_readers_system() {
    let (site, view) = (Site::start(reads()).await, View::open().await);
    view.goto(&site.address()).await;
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        view.colours(scheme).await;
        let brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)";
        let value = view.eval(&format!("{brightness}.reduce((sum, one) => sum + one)")).await;
        backgrounds.push(value.as_u64().unwrap());
    }
    assert!(backgrounds[0] > 600 && backgrounds[1] < 200, "{backgrounds:?}");
    site.end().await;
}

#[actix::test]
async fn a_service_in_health_an_outage_and_restarts_fits_a_desktop_and_a_phone() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.feed(Duration::from_millis(3));
    view.goto(&site.address()).await;
    view.shows("#headline", "All is well").await;
    // Some history for the charts.
    tokio::time::sleep(Duration::from_secs(8)).await;
    look(&view, "healthy").await;

    // Each crash is one of three attempts.
    site.publish(&["crash"]).await;
    view.see("#stories").await;
    view.shows("#stories-list", "is not calibrated").await;
    view.shows("#stories-list .remark", "was in hand each of 3 times").await;
    look(&view, "restarts").await;

    site.broker.kill().unwrap();
    view.shows("#headline", "not ready").await;
    view.shows("#findings", "is away").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // One outage is one finding for each connection, and the advice is about the outage.
    let findings = view.text("#findings").await;
    assert!(!findings.contains("/socket waits") && !findings.contains("look at its disk"), "{findings}");
    look(&view, "outage").await;
    site.broker.start_again().unwrap();
    view.shows("#headline", "well").await;
    view.shows(".ledger-verdict", "Nothing is missing").await;
    look(&view, "back").await;
    view.assert_quiet().await;
    site.end().await;
}

#[actix::test]
async fn many_queues_with_long_names_fit_a_phone() {
    let names: Vec<_> =
        (0..30).map(|number| format!("tenant-{number}.{}", "long-name-without-a-space".repeat(4))).collect();
    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    let (site, view) = (Site::start_with(reads(), Telemetry::new(), &names).await, View::open().await);
    view.goto(&site.address()).await;
    view.shows("#queues-count", "32").await;
    look(&view, "many").await;
    view.click(".filter").await;
    view.keys("readings").await;
    view.shows("#queues-count", "1 of 32").await;
    view.assert_quiet().await;
    site.end().await;
}

/// The picture of the README. With `FLUFFLE_README_PICTURE=FILE` it is written there.
#[actix::test]
async fn the_picture_of_the_readme_is_small() {
    let (site, view) = (Site::start(acts()).await, View::open().await);
    site.feed(Duration::from_millis(4));
    site.publish(&["reject: no such sensor", "crash"]).await;
    view.resize(1180, 680).await;
    view.goto(&site.address()).await;
    view.see("#stories").await;
    view.shows("#stories-list", "ready again").await;
    view.eval("window.scrollTo(0, 0)").await;
    view.shows("#findings", "2 dead letters wait").await;
    // The charts have fifteen minutes; a picture of half a minute shows that they move.
    let wait = if std::env::var_os("FLUFFLE_README_PICTURE").is_some() { 45 } else { 1 };
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let png = view.client.screenshot().await.unwrap();
    if let Some(file) = std::env::var_os("FLUFFLE_README_PICTURE") {
        std::fs::write(file, &png).unwrap();
    }
    assert!(png.starts_with(b"\x89PNG") && png.len() < 150 * 1024, "{} bytes", png.len());
    site.end().await;
}
