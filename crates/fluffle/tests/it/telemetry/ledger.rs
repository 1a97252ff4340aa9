//! The ledger balances through everything that may happen, and shows what is missing from it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fluffle::{
    amqp::{ConsumerLabels, DeliveryEvent, Listener, Observer, PublishEvent, PublisherLabels},
    prelude::*,
    telemetry::Telemetry,
};

use super::{has, value};
use crate::support::*;

const IMBALANCE: &str = "fluffle_ledger_imbalance";

#[actix::test]
async fn it_balances_while_messages_fail_and_connections_are_lost() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| match seen.attempt {
        1 if seen.text.ends_with('7') => Act::Err(Failure::retry("not yet")),
        // Few, because a handler waits longer before each restart.
        1 if ["49", "149"].contains(&&*seen.text) => Act::Panic,
        _ => Act::Ok,
    });
    let consume = Consume::queue("q").retry(retry(5));
    let service = started(app.telemetry(&telemetry).consume(consume, factory)).await;
    let publishing = out.clone();
    let sent = actix::spawn(async move {
        for number in 0..300 {
            publishing.publish(number.to_string()).await.unwrap();
        }
    });
    for _ in 0..2 {
        for _ in 0..50 {
            next(&mut record).await;
        }
        vhost.close_connections("a test");
        let picture = telemetry.picture().unwrap();
        assert!(picture.ledger.iter().all(|line| line.imbalance == 0), "{:?}", picture.ledger);
    }
    soon("all are published", sent).await.unwrap();
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled >= 300.0).await;
    until("the ledgers are read at rest", || {
        let lines = telemetry.picture().unwrap().ledger.clone();
        let rest = lines.iter().filter(|line| line.entered >= 300 && line.entered == line.settled && line.open == 0);
        rest.count() >= 2
    })
    .await;
    assert_eq!(value(&telemetry, IMBALANCE, &["publish", "q"]), 0.0);
    assert_eq!(value(&telemetry, IMBALANCE, &["consume", "q"]), 0.0);
    service.shutdown().await.unwrap();
}

/// Hands events on, but for the first settlement of a delivery: as if a message had been lost from the books.
struct Loses {
    to: Vec<Arc<dyn Observer>>,
    has_lost: Arc<AtomicBool>,
}

impl Observer for Loses {
    fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        let listeners: Vec<_> = self.to.iter().filter_map(|observer| observer.consumer(of)).collect();
        let has_lost = Arc::clone(&self.has_lost);
        Some(Arc::new(move |event: &DeliveryEvent| {
            if !matches!(event, DeliveryEvent::Settled { .. }) || has_lost.swap(true, Ordering::SeqCst) {
                listeners.iter().for_each(|listener| listener(event));
            }
        }))
    }

    fn publisher(&self, of: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        self.to.iter().find_map(|observer| observer.publisher(of))
    }
}

#[actix::test]
async fn what_is_missing_from_it_is_seen_and_stays_seen() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let loses = Loses { to: telemetry.observers(), has_lost: Arc::default() };
    let service = started(app.observe(Arc::new(loses)).consume(Consume::queue("q"), factory)).await;
    telemetry.attach(&service).unwrap();
    publish(&out, &["a", "b"]).await;
    has(&telemetry, IMBALANCE, &["consume", "q"], |missing| missing == 1.0).await;
    assert_eq!(value(&telemetry, IMBALANCE, &["publish", "q"]), 0.0);
    publish(&out, &["c"]).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 2.0).await;
    has(&telemetry, IMBALANCE, &["consume", "q"], |missing| missing == 1.0).await;
    service.shutdown().await.unwrap();
}
