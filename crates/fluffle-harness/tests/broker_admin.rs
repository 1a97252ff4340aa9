//! Tests of the administrator's operations. All use the shared node, each test on a vhost of its own, except the test
//! of the alarm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use std::time::Duration;

use client::{connect, declare_durable, get, publish_confirmed};
use fluffle_harness::{HarnessError, RabbitMq};
use futures_util::StreamExt;
use lapin::{Connection, ConnectionProperties, Event};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_vhost_sees_only_its_own_queues_and_goes_with_its_value() {
    let broker = RabbitMq::shared().unwrap();
    let (one, two) = (broker.fresh_vhost().unwrap(), broker.fresh_vhost().unwrap());
    let connection = connect(one.url(), "vhosts").await;
    declare_durable(&connection.create_channel().await.unwrap(), "a queue, \"quoted\" \u{1f407}").await;
    assert!(one.queue_depths().unwrap().contains_key("a queue, \"quoted\" \u{1f407}"));
    assert!(two.queue_depths().unwrap().is_empty());

    let url = two.url().to_owned();
    drop(two);
    assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err(), "the vhost should be gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn depths_count_ready_and_unacked_messages_and_consumers() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let connection = connect(vhost.url(), "depths").await;
    let channel = connection.create_channel().await.unwrap();
    declare_durable(&channel, "jobs").await;
    publish_confirmed(&channel, "jobs", 3).await;
    channel.basic_qos(2, Default::default()).await.unwrap();
    let _consumer =
        channel.basic_consume("jobs".into(), "".into(), Default::default(), Default::default()).await.unwrap();
    let depth = vhost.wait_queue("jobs", LIMIT, |depth| depth.unacked == 2).unwrap();
    assert_eq!((depth.ready, depth.unacked, depth.consumers), (1, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_depth_that_is_never_reached_ends_in_a_timeout_that_names_the_queue() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let error = vhost.wait_queue("nowhere", Duration::from_millis(50), |_| true).unwrap_err();
    assert!(matches!(error, HarnessError::Timeout { ref what, .. } if what.contains("nowhere")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_vhosts_connections_spares_the_others() {
    let broker = RabbitMq::shared().unwrap();
    let (one, two) = (broker.fresh_vhost().unwrap(), broker.fresh_vhost().unwrap());
    let (cut, spared) = (connect(one.url(), "to be cut").await, connect(two.url(), "spared").await);
    let names = |vhost: &str| -> Vec<String> {
        let all = broker.list_connections().unwrap();
        all.into_iter().filter(|c| c.vhost == vhost).map(|c| c.client_name).collect()
    };
    assert_eq!(names(one.name()), ["to be cut"]);

    let mut events = cut.events_listener();
    assert_eq!(one.close_connections("maintenance").unwrap(), 1);
    let error = next_event(&mut events, |event| matches!(event, Event::Error(_))).await;
    assert!(format!("{error:?}").contains("maintenance"), "{error:?}");
    assert_eq!(names(two.name()), ["spared"]);
    assert!(spared.status().connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_by_the_name_its_client_chose() {
    let broker = RabbitMq::shared().unwrap();
    let vhost = broker.fresh_vhost().unwrap();
    let name = format!("client of {}", vhost.name());
    let connection = connect(vhost.url(), &name).await;
    let mut events = connection.events_listener();
    assert_eq!(broker.close_connections_named(&name, "by name").unwrap(), 1);
    next_event(&mut events, |event| matches!(event, Event::Error(_))).await;
    assert_eq!(broker.close_connections_named("nobody is called this", "by name").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_publishers_raises_connection_blocked_and_unblocking_clears_it() {
    let broker = RabbitMq::start().unwrap();
    let connection = connect(&broker.url(), "publisher").await;
    let mut events = connection.events_listener();
    let channel = connection.create_channel().await.unwrap();
    declare_durable(&channel, "stuck").await;

    broker.block_publishers().unwrap();
    // The broker tells a connection only when it publishes, and an alarm needs some time to reach all connections.
    let publishing = async {
        loop {
            let publish =
                channel.basic_publish("".into(), "stuck".into(), Default::default(), b"x", Default::default());
            publish.await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        _ = next_event(&mut events, |event| matches!(event, Event::ConnectionBlocked(_))) => {}
    }
    broker.unblock_publishers().unwrap();
    next_event(&mut events, |event| matches!(event, Event::ConnectionUnblocked)).await;
    broker.wait_queue("/", "stuck", LIMIT, |depth| depth.ready >= 1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_do_what_its_permissions_say_and_no_more() {
    let broker = RabbitMq::shared().unwrap();
    let vhost = broker.fresh_vhost().unwrap();
    let user = format!("reader-of-{}", vhost.name());
    broker.add_user(&user, "s3cret", vhost.name(), ["", "", ".*"]).unwrap();
    let url = vhost.url().replace("guest:guest", &format!("{user}:s3cret"));
    let connection = connect(&url, "reader").await;
    let channel = connection.create_channel().await.unwrap();
    let declared = channel.queue_declare("forbidden".into(), Default::default(), Default::default()).await;
    assert!(declared.unwrap_err().to_string().contains("ACCESS_REFUSED"));
    broker.delete_user(&user).unwrap();
    assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_empties_a_queue_and_deleting_removes_it() {
    let broker = RabbitMq::shared().unwrap();
    let vhost = broker.fresh_vhost().unwrap();
    let channel = connect(vhost.url(), "purge").await.create_channel().await.unwrap();
    declare_durable(&channel, "full").await;
    publish_confirmed(&channel, "full", 2).await;
    broker.purge_queue(vhost.name(), "full").unwrap();
    assert_eq!(get(&channel, "full").await, None);
    broker.delete_queue(vhost.name(), "full").unwrap();
    assert!(vhost.queue_depths().unwrap().is_empty());
}

#[test]
fn a_refused_operation_carries_the_nodes_reason() {
    let broker = RabbitMq::shared().unwrap();
    let vhost = broker.fresh_vhost().unwrap();
    let refused = broker.add_user("guest", "other", vhost.name(), ["", "", ""]).unwrap_err();
    assert!(
        matches!(refused, HarnessError::Refused { ref reason, .. } if reason.contains("user_already_exists")),
        "{refused}"
    );
    let failed = broker.ctl(&["delete_queue", "--vhost", vhost.name(), "none"]).unwrap_err();
    assert!(matches!(failed, HarnessError::Ctl { .. }), "{failed}");
}

#[test]
fn the_shared_node_cannot_be_stopped_or_killed_by_one_test() {
    let broker = RabbitMq::shared().unwrap();
    assert!(matches!(broker.kill(), Err(HarnessError::NeedsOwnBroker { operation: "kill", .. })));
    assert!(matches!(broker.stop(), Err(HarnessError::NeedsOwnBroker { operation: "stop", .. })));
    broker.wait_ready(LIMIT).unwrap();
}

async fn next_event(events: &mut (impl StreamExt<Item = Event> + Unpin), wanted: impl Fn(&Event) -> bool) -> Event {
    let search = async {
        loop {
            let event = events.next().await.expect("the events ended");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(LIMIT, search).await.expect("the awaited event did not come")
}
