//! What a plain client sees of a cluster whose nodes are killed, drained, restarted and parted. A cluster boots for 10
//! to 20 s, so each test does several things to one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::Arc,
    time::Duration,
};

use client::{connect, declare_quorum, get};
use fluffle_harness::{Cluster, HarnessError, PartitionHandling};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, options::*};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(150);
const QUEUE: &str = "carrots";
const GROUPS: [&[usize]; 2] = [&[0], &[1, 2]];

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_loses_nothing_while_leaders_move_and_nodes_are_killed_drained_and_restarted() {
    let cluster = Cluster::start().unwrap();
    let sent = Sent::default();
    let on_first = connect(&cluster.urls()[0], "on the first node").await;
    declare_quorum(&on_first.create_channel().await.unwrap(), QUEUE).await;

    cluster.move_leader("/", QUEUE, 1).unwrap();
    assert_eq!(cluster.leader("/", QUEUE).unwrap(), Some(1));
    sent.publish(&on_first).await.expect("a leader that moves is nothing that a client must notice");

    let on_second = connect(&cluster.urls()[1], "on the second node").await;
    cluster.node(1).unwrap().kill().unwrap();
    until_it_ends(&on_second).await;
    refused(&cluster.urls()[1]).await;
    cluster.wait_leader("/", QUEUE, LIMIT, |leader| leader != 1).unwrap();
    sent.publish(&on_first).await.expect("the clients of other nodes go on");
    cluster.node(1).unwrap().start_again().unwrap();
    cluster.wait_healthy(LIMIT).unwrap();

    cluster.move_leader("/", QUEUE, 0).unwrap();
    cluster.drain(0).unwrap();
    until_it_ends(&on_first).await;
    refused(&cluster.urls()[0]).await;
    cluster.wait_leader("/", QUEUE, LIMIT, |leader| leader != 0).unwrap();
    let on_third = connect(&cluster.urls()[2], "on the third node").await;
    sent.publish(&on_third).await.unwrap();
    cluster.revive(0).unwrap();
    cluster.wait_healthy(LIMIT).unwrap();
    connect(&cluster.urls()[0], "on the revived node").await;

    let (urls, cluster) = (cluster.urls(), Arc::new(cluster));
    let restarting = tokio::task::spawn_blocking({
        let cluster = cluster.clone();
        move || cluster.restart_one_by_one(|_| {})
    });
    sent.publish_while(&urls, || !restarting.is_finished()).await;
    restarting.await.unwrap().unwrap();
    sent.all_are_there(&urls[0]).await;

    let folders: Vec<_> = (0..3).map(|node| cluster.node(node).unwrap().folder().to_path_buf()).collect();
    drop(cluster);
    assert!(folders.iter().all(|folder| !folder.exists()), "a folder is left of {folders:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: docs/TESTING.md has the command"]
async fn a_paused_minority_takes_nothing_and_the_majority_goes_on_until_the_partition_heals() {
    let (cluster, sent) = parted_cluster(PartitionHandling::PauseMinority).await;
    let alone = connect(&cluster.urls()[0], "in the minority").await;
    cluster.partition(&GROUPS).unwrap();
    until_it_ends(&alone).await;
    refused(&cluster.urls()[0]).await;
    cluster.wait_noticed(&GROUPS, LIMIT).unwrap();
    assert!(!cluster.is_running(0));
    assert_ne!(cluster.wait_leader("/", QUEUE, LIMIT, |leader| leader != 0).unwrap(), 0);
    let together = connect(&cluster.urls()[1], "in the majority").await;
    sent.publish(&together).await.unwrap();

    cluster.heal();
    cluster.wait_healthy(LIMIT).unwrap();
    sent.all_are_there(&cluster.urls()[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: docs/TESTING.md has the command"]
async fn with_autoheal_a_minority_runs_on_and_confirms_nothing_and_is_restarted_when_the_partition_heals() {
    let (cluster, sent) = parted_cluster(PartitionHandling::Autoheal).await;
    let alone = connect(&cluster.urls()[0], "in the minority").await;
    cluster.partition(&GROUPS).unwrap();
    cluster.wait_noticed(&GROUPS, LIMIT).unwrap();
    cluster.wait_leader("/", QUEUE, LIMIT, |leader| leader != 0).unwrap();
    assert!((0..3).all(|node| cluster.is_running(node)));
    let refused = timeout(Duration::from_secs(3), sent.publish(&alone)).await;
    assert!(!matches!(refused, Ok(Ok(()))), "a message without a majority was confirmed");
    let together = connect(&cluster.urls()[1], "in the majority").await;
    sent.publish(&together).await.unwrap();

    cluster.heal();
    if cluster.wait_healthy(Duration::from_secs(30)).is_err() {
        // Autoheal of RabbitMQ 3.10 sometimes restarts a node without its replica of the queue; a boot starts it.
        (0..3).for_each(|node| cluster.node(node).unwrap().restart().unwrap());
    }
    cluster.wait_healthy(LIMIT).unwrap();
    sent.all_are_there(&cluster.urls()[0]).await;
}

#[test]
fn a_partition_that_leaves_a_node_out_or_a_cluster_without_nodes_is_refused_in_words() {
    let none = Cluster::builder().nodes(0).start().unwrap_err();
    assert!(matches!(none, HarnessError::BadSetting { name: "nodes", .. }), "{none}");
    let hasty = Cluster::builder().tick(Duration::from_secs(1)).start().unwrap_err();
    assert!(matches!(hasty, HarnessError::BadSetting { name: "tick", .. }), "{hasty}");
    let one = Cluster::builder().nodes(1).start().unwrap();
    for groups in [&[][..], &[&[0][..], &[0]], &[&[0, 1]]] {
        let refused = one.partition(groups).unwrap_err();
        assert!(matches!(refused, HarnessError::BadSetting { name: "groups", .. }), "{refused}");
    }
    assert!(one.drain(1).unwrap_err().to_string().contains("there is no node 1"));
    assert_eq!(one.leader("/", QUEUE).unwrap(), None);
}

/// A cluster with a short tick, whose queue is led by the node that will be alone.
async fn parted_cluster(handling: PartitionHandling) -> (Cluster, Sent) {
    let cluster = Cluster::builder().partition_handling(handling).tick(Duration::from_secs(5)).start().unwrap();
    let sent = Sent::default();
    let connection = connect(&cluster.urls()[0], "before").await;
    declare_quorum(&connection.create_channel().await.unwrap(), QUEUE).await;
    cluster.move_leader("/", QUEUE, 0).unwrap();
    sent.publish(&connection).await.unwrap();
    (cluster, sent)
}

/// The messages that were confirmed.
#[derive(Default)]
struct Sent {
    next: Cell<usize>,
    confirmed: RefCell<BTreeSet<usize>>,
}

/// How many messages are published at a time.
const SOME: usize = 20;

impl Sent {
    /// Publishes some messages, each when the one before is confirmed.
    async fn publish(&self, connection: &Connection) -> Result<(), lapin::Error> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for _ in 0..SOME {
            let number = self.next.replace(self.next.get() + 1);
            let (options, body) = (BasicPublishOptions::default(), number.to_string());
            let properties = BasicProperties::default().with_delivery_mode(2);
            let confirm = channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties).await?;
            if confirm.await? == Confirmation::Ack(None) {
                self.confirmed.borrow_mut().insert(number);
            }
        }
        channel.close(200, "done".into()).await
    }

    /// Publishes on whichever node answers, as long as `goes_on` says.
    async fn publish_while(&self, urls: &[String], goes_on: impl Fn() -> bool) {
        let before = self.confirmed.borrow().len();
        for url in urls.iter().cycle() {
            if !goes_on() {
                break;
            }
            if let Ok(Ok(connection)) = timeout(Duration::from_secs(5), open(url)).await {
                // An error is a node that goes away, and the next one is tried.
                while goes_on()
                    && matches!(timeout(Duration::from_secs(5), self.publish(&connection)).await, Ok(Ok(())))
                {
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert!(self.confirmed.borrow().len() >= before + SOME, "nothing was confirmed meanwhile");
    }

    /// Empties the queue, and looks for every confirmed message.
    async fn all_are_there(&self, url: &str) {
        let connection = connect(url, "reader").await;
        let channel = connection.create_channel().await.unwrap();
        let mut missing = self.confirmed.borrow().clone();
        while let Some(body) = get(&channel, QUEUE).await {
            missing.remove(&String::from_utf8(body).unwrap().parse().unwrap());
        }
        let confirmed = self.confirmed.borrow().len();
        assert!(confirmed >= SOME && missing.is_empty(), "{} of {confirmed} are missing: {missing:?}", missing.len());
    }
}

async fn open(url: &str) -> Result<Connection, lapin::Error> {
    Connection::connect(url, ConnectionProperties::default()).await
}

/// A node that is away, paused or in maintenance takes no connection.
async fn refused(url: &str) {
    let answer = timeout(LIMIT, open(url)).await.expect("an answer, and be it a closed connection");
    assert!(answer.is_err(), "{url} took a connection");
}

async fn until_it_ends(connection: &Connection) {
    let deadline = Instant::now() + LIMIT;
    while connection.status().connected() {
        assert!(Instant::now() < deadline, "the connection of a node that went away still lives");
        sleep(Duration::from_millis(20)).await;
    }
}
