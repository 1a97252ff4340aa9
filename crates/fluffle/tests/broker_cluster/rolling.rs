//! All nodes of the cluster are restarted, one after the other.

use std::sync::Arc;

use fluffle::prelude::*;
use fluffle_harness::Cluster;

use crate::{load::*, support::*};

#[actix::test]
async fn while_all_nodes_are_restarted_one_by_one_no_publish_fails_and_nothing_is_lost_or_out_of_order() {
    let cluster = Arc::new(blocking(|| Cluster::start().unwrap()).await);
    let app = App::new(broker(&cluster.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q").deadline(LONG));
    let (seen, mut restarted) = (Handled::default(), 0);
    let counted = seen.clone();
    let service = started(app.consume(Consume::queue("q").prefetch(50), move || Counting(counted.clone()))).await;
    let load = Load::begin(out);
    load.more(200).await;
    let rolling = Arc::clone(&cluster);
    let rounds = blocking(move || {
        rolling.restart_one_by_one(|_| restarted += 1).unwrap();
        restarted
    });
    assert_eq!(rounds.await, 3);
    load.more(200).await;
    let published = load.end().await;
    seen.all_of(published).await;
    let again = seen.complete_and_in_order(published);
    eprintln!("published={published} again={again} longest_pause={:?}", seen.longest_pause());
    service.shutdown().await.unwrap();
}
