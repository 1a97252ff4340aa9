//! Traps of publishing.

use std::time::Duration;

use fluffle::{
    broker::{Fault, Target},
    prelude::*,
    testing::TestBroker,
};

use crate::support::*;

/// The alarm ends while the connection is lost, so the new connection never gets `connection.unblocked`.
#[actix::test]
async fn a_publisher_is_not_blocked_for_ever_by_an_unblocked_it_missed() {
    let embedded = TestBroker::start().unwrap();
    let app = App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q").confirm_timeout(Duration::from_secs(2)));
    let service = started(app).await;
    let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
    let alarm = embedded.faults().strike(alarm, Target::all()).unwrap();
    let waiting = out.enqueue("accepted while blocked".to_owned()).await.unwrap();
    until("it knows", || service.connections().iter().any(|one| one.blocked.is_some())).await;
    // The alarm ends while the broker is stopped, so no connection is told of it.
    embedded.stop().unwrap();
    alarm.heal().unwrap();
    embedded.start_again().unwrap();
    soon("published", waiting.confirmed()).await.unwrap();
    assert!(service.connections().iter().all(|one| one.blocked.is_none()), "{:?}", service.connections());
    service.shutdown().await.unwrap();
}
