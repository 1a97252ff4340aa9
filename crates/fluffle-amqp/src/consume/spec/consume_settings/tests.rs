use std::{sync::Arc, time::Duration};

use fluffle_supervise::{Backoff, Intensity};
use fluffle_wire::Limits;
use futures_util::future::BoxFuture;

use super::*;
use crate::{
    base::written::tests::names_all,
    consume::spec::{
        retry::Retry,
        seen_store::{SeenError, SeenStore},
    },
    flow::{
        rate::RateLimit,
        switch::{BreakerState, Window},
    },
};

/// Every key, each with a value that is not its default.
const EVERY_KEY: &str = r#"
    prefetch = 7
    instances = 2
    lanes = 3
    concurrency = 4
    guarantee = "at-most-once"
    delivery_limit = 9
    retry_requests = true
    confirm_timeout = "3s"
    handler_timeout = "4m"
    give_back_after = "5m"
    consumer_timeout = "6h"
    handler_backoff = { min = "20ms", max = "7s", factor = 3, reset_after = "9s", first_at_once = true }
    handler_intensity = { max_restarts = 3, within = "8s" }
    blocking = true
    exclusive = true
    priority = -10
    max_bytes_in_flight = "2KiB"
    rate_limit = { per_minute = 60, burst = 3 }
    kill_switch = { ratio = 0.25, window = { last = 100, within = "1m", at_least = 20 }, restart_after = "10m" }
    dead_letter_queue = "graveyard"
    skip_other_types = true
    limits = { encoded = 1, decompressed = "2KiB", ratio = 3, batch_items = 4 }

    [retry]
    attempts = 4
    first = "200ms"
    factor = 10.0
    max_delay = "10s"
    jitter = 0.2
    in_process_below = "1s"

    [circuit_breaker]
    name = "payments"
    ratio = 1
    window = { last = 2 }
    open_for = { min = "1h", max = "1h" }
    probes = 5
    count_rejections = true

    [type_aliases]
    order-placed = "shop.v2.OrderPlaced"
"#;

fn settings(text: &str) -> ConsumeSettings {
    toml::from_str(text).unwrap()
}

fn consume() -> Consume<String> {
    Consume::queue("orders")
}

struct Store;

impl SeenStore for Store {
    fn contains<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        Box::pin(async { Ok(false) })
    }

    fn insert<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn each_setting_arrives() {
    names_all::<ConsumeSettings>(EVERY_KEY);
    let seconds = Duration::from_secs;
    let retry = Retry::exponential(4, Duration::from_millis(200), 10.0).unwrap().max_delay(seconds(10));
    let backoff = Backoff::exponential(Duration::from_millis(20), seconds(7)).unwrap().factor(3.0).unwrap();
    let kill_switch = KillSwitch::new(0.25, Window::last(100).within(seconds(60)).at_least(20)).unwrap();
    let breaker = CircuitBreaker::new("payments").ratio(1.0).unwrap().window(Window::last(2)).probes(5);

    // Settings that name nothing leave it all.
    let consume = consume().settings(&settings(EVERY_KEY)).settings(&ConsumeSettings::default());
    assert_eq!(consume.queue, "orders");
    assert_eq!(consume.prefetch, 7);
    assert_eq!(consume.instances, Some(2));
    assert_eq!(consume.lanes, 3);
    assert_eq!(consume.concurrency, Some(4));
    assert_eq!(consume.guarantee, Guarantee::AtMostOnce);
    assert_eq!(consume.retry, retry.jitter(0.2).unwrap().in_process_below(seconds(1)).unwrap());
    assert_eq!(consume.delivery_limit, Some(9));
    assert!(consume.retry_requests);
    assert_eq!(consume.confirm_timeout, seconds(3));
    assert_eq!(consume.handler_timeout, seconds(240));
    assert_eq!(consume.give_back_after, Some(seconds(300)));
    assert_eq!(consume.consumer_timeout, Some(seconds(6 * 3600)));
    assert_eq!(consume.handler_backoff, backoff.reset_after(seconds(9)).first_at_once());
    assert_eq!(consume.handler_intensity, Intensity::new(3, seconds(8)).unwrap());
    assert_eq!(consume.threads, Threads::Own);
    assert!(consume.exclusive);
    assert_eq!(consume.priority, Some(-10));
    assert_eq!(consume.max_bytes, 2048);
    assert_eq!(format!("{:?}", consume.kill_switch), format!("{:?}", Some(kill_switch.restart_after(seconds(600)))));
    assert_eq!(consume.dead_letter_queue.as_deref(), Some("graveyard"));
    assert!(consume.skips_other_types);
    assert_eq!(*consume.wire.bounds(), Limits { encoded: 1, decompressed: 2048, ratio: 3, batch_items: 4 });
    assert_eq!(consume.aliased, ["shop.v2.OrderPlaced"]);
    let open_for = Backoff::exponential(seconds(3600), seconds(3600)).unwrap();
    let wanted = breaker.open_for(open_for).count_rejections();
    let told = |breaker: &CircuitBreaker| format!("{breaker:?} {:?} {}", breaker.terms, breaker.rejections);
    assert_eq!(told(&consume.circuit_breaker.unwrap()), told(&wanted));
    let limit = consume.rate_limit.unwrap();
    assert!([(); 3].iter().all(|()| limit.try_take().is_ok()) && limit.try_take().is_err(), "a burst of 3");
}

#[test]
fn settings_override_what_they_name_and_leave_the_rest_as_the_code_says() {
    let code = || consume().prefetch(64).instances(8).exclusive().rate_limit(RateLimit::per_second(1, 1));
    let retry = Retry::exponential(4, Duration::from_millis(200), 10.0).unwrap();

    let named = code().retry(retry.clone()).settings(&settings("prefetch = 7\nretry = { attempts = 2 }"));
    assert_eq!((named.prefetch, named.instances, named.exclusive), (7, Some(8), true));
    assert_eq!(named.retry.delays(), [Duration::from_millis(200)], "the first wait is the code's");
    assert!(named.rate_limit.is_some());

    let off = code().settings(&settings("exclusive = false\nrate_limit = false"));
    assert!(!off.exclusive && off.rate_limit.is_none());
    assert_eq!(code().settings(&settings("prefetch = 7")).prefetch(9).prefetch, 9, "what stands after it holds");
    assert_eq!(code().settings(&ConsumeSettings::default()).prefetch, 64);
    let limits = Limits { encoded: 5, ..Limits::default() };
    let limited = code().limits(limits).settings(&settings("limits = { ratio = 7 }"));
    assert_eq!(*limited.wire.bounds(), Limits { ratio: 7, ..limits });
}

#[test]
fn at_least_once_in_a_file_leaves_effectively_once_on() {
    let code = || consume().effectively_once(Arc::new(Store));
    assert!(code().settings(&settings("guarantee = 'at-least-once'")).seen.is_some());
    assert!(code().settings(&settings("guarantee = 'at-most-once'")).seen.is_none());
}

#[test]
fn consumers_with_the_same_settings_share_no_state() {
    let settings = settings("rate_limit = { per_minute = 1 }\ncircuit_breaker = { name = 'b', window = { last = 1 } }");
    let (one, other) = (consume().settings(&settings), consume().settings(&settings));
    assert!(one.rate_limit.unwrap().try_take().is_ok() && other.rate_limit.unwrap().try_take().is_ok());
    let (one, other) = (one.circuit_breaker.unwrap(), other.circuit_breaker.unwrap());
    one.shared().record(one.shared().look().1, true);
    assert_eq!((one.state(), other.state()), (BreakerState::Open, BreakerState::Closed));
}
