//! A node is put into maintenance mode, as before an upgrade, and leaders are moved.

use std::sync::Arc;

use fluffle::prelude::*;
use fluffle_harness::Cluster;

use crate::{load::*, support::*};

#[actix::test]
async fn while_leaders_move_and_their_node_is_drained_and_revived_no_publish_fails_and_nothing_is_lost_or_out_of_order()
{
    let cluster = Arc::new(blocking(|| Cluster::start().unwrap()).await);
    let app = App::new(broker(&cluster.url()).endpoint_order(EndpointOrder::Listed));
    let app = app.topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q").deadline(LONG));
    let seen = Handled::default();
    let counted = seen.clone();
    let service = started(app.consume(Consume::queue("q").prefetch(50), move || Counting(counted.clone()))).await;
    let load = Load::begin(out);
    load.more(100).await;
    for node in [1, 2, 0] {
        let moved = Arc::clone(&cluster);
        blocking(move || moved.move_leader("/", "q", node).unwrap()).await;
        load.more(50).await;
    }
    let drained = Arc::clone(&cluster);
    blocking(move || drained.drain(0).unwrap()).await;
    load.more(200).await;
    let on = service.status().connections.into_iter().filter_map(|connection| connection.endpoint);
    let gone = &cluster.urls()[0];
    let port = gone.rsplit(':').next().unwrap().split('/').next().unwrap();
    assert!(on.into_iter().all(|endpoint| !endpoint.contains(port)), "a connection is at the drained node {port}");
    let revived = Arc::clone(&cluster);
    blocking(move || revived.revive(0).unwrap()).await;
    load.more(100).await;
    let published = load.end().await;
    seen.all_of(published).await;
    let again = seen.complete_and_in_order(published);
    eprintln!("published={published} again={again} longest_pause={:?}", seen.longest_pause());
    service.shutdown().await.unwrap();
}
