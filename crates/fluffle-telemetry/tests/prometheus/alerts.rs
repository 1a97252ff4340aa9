//! The alerts in a real Prometheus, each provoked truly.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use crate::{
    busy::{Busy, soon},
    deploy::{Deployed, read, rules},
};

#[actix::test]
async fn each_alert_fires_when_it_should_and_none_before() {
    let (busy, forget) = Busy::start_forgetful().await;
    let deployed = Deployed::start(busy.server.address());
    soon("confirmed", busy.orders.publish("a".to_owned())).await.unwrap();
    busy.broker.settled(&busy.service).await.unwrap();
    let handled = "fluffle_consume_settled_total{queue=\"orders\", outcome=\"handled\"} == 1";
    deployed.wait_for(handled, |samples| !samples.is_empty()).unwrap();
    assert!(deployed.samples("ALERTS").unwrap().is_empty(), "a service that is well has no alert");

    let mut fired = BTreeSet::new();
    let mut fires = |alert: &str| {
        let alert_now = deployed.fires(alert);
        let annotations = &alert_now["annotations"];
        for text in [&annotations["summary"], &annotations["description"]] {
            let text = text.as_str().unwrap();
            assert!(!["no value", "{{", "<error"].iter().any(|bad| text.contains(bad)), "{alert}: {text}");
        }
        fired.insert(alert.to_owned());
    };
    busy.provoke().await;
    fires("FluffleDeadLettersGrow");
    fires("FlufflePublishFails");
    fires("FluffleDeadLettersWait");
    busy.leave_in_outbox().await;
    fires("FluffleOutboxOld");
    // Two, because a rate needs a value before the one that grows it.
    busy.handle_an_old_message().await;
    deployed.wait_for("fluffle_message_age_seconds_count{queue=\"mails\"}", |samples| !samples.is_empty()).unwrap();
    busy.handle_an_old_message().await;
    fires("FluffleMessagesOld");
    for _ in 0..3 {
        soon("confirmed", busy.orders.publish("poison".to_owned())).await.unwrap();
    }
    fires("FluffleRestartsInARow");
    busy.lose_connections(3).await;
    fires("FluffleConnectionUnstable");
    assert_eq!(busy.read("fluffle_ledger_imbalance", &["consume", "orders"]), 0.0);
    forget.store(true, Ordering::SeqCst);
    soon("confirmed", busy.orders.publish("b".to_owned())).await.unwrap();
    fires("FluffleLedgerImbalance");
    soon("confirmed", busy.stock.publish("retry".to_owned())).await.unwrap();
    fires("FluffleBreakerOpen");
    soon("paused", busy.service.pause_consumer("mails")).await.unwrap();
    fires("FluffleConsumerPaused");
    busy.service.resume_consumer("mails").unwrap();
    soon("confirmed", busy.orders.publish("block".to_owned())).await.unwrap();
    fires("FluffleThreadBlocked");
    let (alarm, waits) = busy.block().await;
    fires("FluffleConnectionBlocked");
    alarm.heal().unwrap();
    soon("confirmed", waits.confirmed()).await.unwrap();
    // Before the broker is away, when nobody knows its dead letters, and the service ends.
    for rule in rules(&read("alerts.yml")) {
        let samples = deployed.samples(rule.unconditional()).unwrap();
        assert!(!samples.is_empty(), "{}: {} has no samples", rule.name, rule.unconditional());
        // Prometheus writes nothing for a label that is not there.
        for label in &rule.labels {
            let are_all_there = samples.iter().all(|(labels, _)| labels[label].is_string());
            assert!(are_all_there, "the text of {} shows {label}, which is no label of it: {samples:?}", rule.name);
        }
    }
    let unhealthy: Vec<_> =
        deployed.prometheus.rules().unwrap().into_iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(unhealthy.is_empty(), "{unhealthy:?}");

    busy.broker.stop().unwrap();
    fires("FluffleConsumerAway");
    fires("FluffleConnectionDown");
    drop(busy.leave_in_journal().await);
    fires("FluffleJournalOld");

    drop(busy);
    fires("FluffleNotScraped");
    for rule in rules(&read("alerts.yml")) {
        assert!(fired.contains(&rule.name), "{} is not provoked", rule.name);
    }
}
