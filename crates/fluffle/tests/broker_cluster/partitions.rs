//! The network between the nodes is cut, and with it that between the service and a node, or not.

use std::{sync::Arc, time::Duration};

use fluffle::prelude::*;
use fluffle_harness::{Cluster, PartitionHandling};

use crate::{load::*, support::*};

/// The node that leads the queue and holds the connections is alone.
const GROUPS: [&[usize]; 2] = [&[0], &[1, 2]];

#[derive(PartialEq)]
enum Clients {
    /// They reach all nodes.
    Everywhere,
    /// They do not reach the node that is alone either, and nobody tells them.
    WithTheMajority,
}

async fn nothing_is_lost(handling: PartitionHandling, clients: Clients) {
    let tick = Duration::from_secs(5);
    let start = move || Cluster::builder().partition_handling(handling).tick(tick).start().unwrap();
    let cluster = Arc::new(blocking(start).await);
    let broker = broker(&cluster.url()).endpoint_order(EndpointOrder::Listed).heartbeat(Duration::from_secs(2));
    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let route = Route::queue("q").deadline(LONG).confirm_timeout(Duration::from_secs(5));
    let out = app.publisher::<String>(route);
    let seen = Handled::default();
    let counted = seen.clone();
    let service = started(app.consume(Consume::queue("q").prefetch(50), move || Counting(counted.clone()))).await;
    let moved = Arc::clone(&cluster);
    blocking(move || moved.move_leader("/", "q", 0).unwrap()).await;
    let load = Load::begin(out);
    load.more(100).await;

    let parted = Arc::clone(&cluster);
    let silent = clients == Clients::WithTheMajority;
    blocking(move || {
        if silent {
            parted.proxy(0).unwrap().silence();
        }
        parted.partition(&GROUPS).unwrap();
        parted.wait_noticed(&GROUPS, LONG).unwrap();
        parted.wait_leader("/", "q", LONG, |leader| leader != 0).unwrap();
    })
    .await;
    load.more(100).await;
    let healed = Arc::clone(&cluster);
    blocking(move || {
        healed.proxy(0).unwrap().open();
        healed.heal();
        if healed.wait_healthy(Duration::from_secs(30)).is_err() {
            // Autoheal of RabbitMQ 3.10 sometimes restarts a node without its replica of the queue; a boot starts it.
            (0..3).for_each(|node| healed.node(node).unwrap().restart().unwrap());
        }
        healed.wait_healthy(LONG).unwrap();
    })
    .await;
    load.more(100).await;
    let published = load.end().await;
    seen.all_of(published).await;
    let again = seen.complete(published);
    eprintln!("published={published} again={again} longest_pause={:?}", seen.longest_pause());
    service.shutdown().await.unwrap();
}

#[actix::test]
#[ignore = "takes minutes: docs/TESTING.md has the command"]
async fn of_a_minority_that_pauses_no_publish_fails_and_nothing_is_lost() {
    nothing_is_lost(PartitionHandling::PauseMinority, Clients::Everywhere).await;
}

#[actix::test]
#[ignore = "takes minutes: docs/TESTING.md has the command"]
async fn of_a_minority_that_clients_do_not_reach_either_no_publish_fails_and_nothing_is_lost() {
    nothing_is_lost(PartitionHandling::PauseMinority, Clients::WithTheMajority).await;
}

#[actix::test]
#[ignore = "takes minutes: docs/TESTING.md has the command"]
async fn of_a_minority_that_runs_on_and_is_restarted_no_publish_fails_and_nothing_is_lost() {
    nothing_is_lost(PartitionHandling::Autoheal, Clients::Everywhere).await;
}
