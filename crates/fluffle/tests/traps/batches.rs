//! Traps of batches and of what a client holds.

use std::sync::Arc;

use fluffle::prelude::*;
use tokio::sync::Notify;

use crate::{app, publish, stats, support::*};

/// The buffer inside the client has no bound of its own.
#[actix::test]
async fn no_more_than_the_prefetch_is_in_the_process_for_the_clients_buffer_has_no_bound() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "first" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").prefetch(5).concurrency(1), factory)).await;
    publish(&out, &["first"]).await;
    next(&mut record).await;
    let texts: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    publish(&out, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    until("the broker keeps the rest", || (vhost.depth("q").ready, vhost.depth("q").unacked) == (46, 5)).await;
    assert!(stats(&service).received <= 5);
    go.notify_one();
    until("all are handled", || stats(&service).handled == 51).await;
    service.shutdown().await.unwrap();
}
