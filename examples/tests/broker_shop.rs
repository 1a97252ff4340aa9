//! Tests of the shop in its own process: over HTTP, with SIGTERM, and with its broker killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;
use fluffle_harness::RabbitMq;
use support::{Program, http, until};

/// Starts the shop, and waits until its readiness probe answers `ready`. Returns it with its address. An empty URL
/// means the embedded broker.
fn open(amqp_url: &str, ready: u16) -> (Program, String) {
    let mut shop = Program::start(env!("CARGO_BIN_EXE_shop"), &[("PORT", "0"), ("AMQP_URL", amqp_url)]);
    let address = shop.line("open on http://").rsplit('/').next().unwrap().to_owned();
    until("ready", || http(&address, "GET /ready", "").0 == ready);
    (shop, address)
}

fn order(address: &str, item: &str) -> (u16, String) {
    http(address, "POST /orders", &format!(r#"{{ "item": "{item}", "quantity": 3 }}"#))
}

/// Waits until the order is shipped, in one parcel.
fn shipped(address: &str, id: usize) {
    until("shipped", || http(address, &format!("GET /orders/{id}"), "").1.ends_with(r#""shipped","parcels":1}"#));
}

#[test]
fn an_order_is_paid_and_shipped_and_what_is_not_sold_is_no_order() {
    let (_shop, address) = open("", 200);
    let (status, answer) = order(&address, "carrots");
    assert!(status == 202 && answer.ends_with(r#"{"cents":75,"id":1}"#), "{status} {answer}");
    shipped(&address, 1);
    let (status, answer) = order(&address, "unicorns");
    assert!(status == 422 && answer.ends_with(r#"{"error":"we do not sell 3 unicorns"}"#), "{status} {answer}");
    assert_eq!(["/orders/2", "/live"].map(|path| http(&address, &format!("GET {path}"), "").0), [404, 200]);
}

#[test]
fn sigterm_while_an_order_is_packed_ends_the_shop_when_it_is_shipped() {
    let (mut shop, address) = open("", 200);
    assert_eq!(order(&address, "carrots").0, 202);
    shop.line("order 1: packing");
    shop.signal("TERM");
    let (code, said) = shop.ended();
    assert!(code == Some(0) && said.contains("order 1: shipped") && !said.contains("panicked"), "{code:?} {said}");
}

#[test]
fn without_a_broker_the_shop_answers_that_it_cannot_sell_now_and_ends_when_told() {
    let (shop, address) = open("amqp://127.0.0.1:1", 503);
    assert_eq!((order(&address, "carrots").0, http(&address, "GET /live", "").0), (503, 200));
    shop.signal("TERM");
    assert_eq!(shop.ended().0, Some(0));
}

#[test]
fn orders_accepted_while_the_broker_is_killed_are_shipped_once_and_the_others_are_told() {
    let node = RabbitMq::start().unwrap();
    let (shop, address) = open(&node.url(), 200);
    let mut accepted = 0;
    let mut order_until = |wanted: u16| {
        until("an answer", || {
            let began = std::time::Instant::now();
            let (status, answer) = order(&address, "lettuce");
            assert!([202, 503, 504].contains(&status) && began.elapsed().as_secs() < 5, "{status} {answer}");
            accepted += usize::from(status == 202);
            status == wanted
        })
    };
    (0..20).for_each(|_| order_until(202));
    std::thread::scope(|scope| {
        scope.spawn(|| node.kill().unwrap());
        order_until(503);
    });
    node.start_again().unwrap();
    order_until(202);
    (1..=accepted).for_each(|id| shipped(&address, id));
    assert_eq!(http(&address, &format!("GET /orders/{}", accepted + 1), "").0, 404, "an order nobody was told of");
    shop.signal("TERM");
    let (code, said) = shop.ended();
    assert!(code == Some(0) && !said.contains("panicked"), "{code:?} {said}");
    assert_eq!(said.matches(": shipped").count(), accepted, "{said}");
}
