use std::time::Duration;

use fluffle_wire::{Gzip, Limits};

use super::*;
use crate::{base::written::tests::names_all, publish::batching::Batching};

/// Every key, each with a value that is not its default.
const EVERY_KEY: &str = r#"
    name = "urgent"
    key = "eu"
    key_template = "order.{id}"
    confirms = 256
    confirm_timeout = "3s"
    deadline = "4s"
    batch = { max_bytes = "1KiB", max_items = 5, linger = "6ms", adaptive = true }
    lanes = 3
    mailbox = 8
    max_bytes_in_flight = "2KiB"
    rate_limit = { per_minute = 60, burst = 3 }
    mandatory = false
    persistent = false
    republish = "full"
    gzip = { mode = "auto", level = 6, min_size = "3KiB" }
    limits = { encoded = "5KiB", decompressed = "8KiB", ratio = 300, batch_items = 4 }
"#;

fn route() -> Route<String> {
    Route::exchange("orders")
}

fn settings(text: &str) -> RouteSettings {
    toml::from_str(text).unwrap()
}

/// Whether a body of so many bytes is compressed.
fn is_packed(route: &Route<String>, bytes: usize) -> bool {
    route.wire.encode(&"a".repeat(bytes)).unwrap().content_encoding.is_some()
}

#[test]
fn each_setting_arrives() {
    names_all::<RouteSettings>(EVERY_KEY);
    let seconds = Duration::from_secs;
    // Settings that name nothing leave it all.
    let route = route().settings(&settings(EVERY_KEY)).settings(&RouteSettings::default());
    assert_eq!(&*route.exchange, "orders");
    assert_eq!(route.name.as_deref(), Some("urgent"));
    assert!(matches!(&route.key, Key::Fixed(key) if &**key == "eu"));
    assert_eq!(route.key_template.as_deref(), Some("order.{id}"));
    assert_eq!(route.confirms, Confirms::Window(256));
    assert_eq!((route.confirm_timeout, route.deadline), (seconds(3), seconds(4)));
    let batching = Batching::adaptive().max_bytes(1024).max_items(5).linger(Duration::from_millis(6));
    assert_eq!(route.batching, Some(batching));
    assert_eq!((route.lanes, route.mailbox, route.max_bytes), (3, 8, 2048));
    assert!(!route.mandatory && !route.persistent);
    assert_eq!(route.republish, Republish::Full);
    assert!(!is_packed(&route, 3000) && is_packed(&route, 4000));
    assert_eq!(*route.wire.bounds(), Limits { encoded: 5120, decompressed: 8192, ratio: 300, batch_items: 4 });
    let limit = route.rate_limit.unwrap();
    assert!([(); 3].iter().all(|()| limit.take_now()) && !limit.take_now(), "a burst of 3");
}

#[test]
fn settings_override_what_they_name_and_leave_the_rest_as_the_code_says() {
    let code = || route().lanes(2).mandatory(false).batch(Batching::default().max_items(5)).gzip(Gzip::on());
    let named = code().settings(&settings("lanes = 4\nbatch = { linger = '6ms' }"));
    assert_eq!((named.lanes, named.mandatory), (4, false));
    assert_eq!(named.batching, Some(Batching::default().max_items(5).linger(Duration::from_millis(6))));
    assert!(is_packed(&named, 100));
    assert_eq!(code().settings(&settings("batch = false")).batching, None);
    assert_eq!(route().settings(&settings("batch = true")).batching, Some(Batching::default()));
    assert_eq!(code().settings(&settings("lanes = 4")).lanes(9).lanes, 9, "what stands after it holds");
}

#[test]
fn words_and_numbers_say_how_confirms_work() {
    let confirms = |text: &str| route().settings(&settings(text)).confirms;
    assert_eq!(confirms("confirms = 'off'"), Confirms::Off);
    assert_eq!(confirms("confirms = 'each'"), Confirms::Each);
    assert_eq!(confirms("confirms = '64'"), Confirms::Window(64), "as an environment variable has it");
}
