//! Limits of a publisher: its rate, and the bytes that are not confirmed.

use std::time::Duration;

use fluffle::{prelude::*, testing::TestBroker};

use crate::support::{counts, soon, started};

#[actix::test]
async fn a_publisher_past_its_rate_limit_waits_and_is_overloaded_at_its_deadline() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let route = Route::<String>::queue("q").rate_limit(RateLimit::per_minute(1, 3));
    let out = app.publisher(route.deadline(Duration::from_millis(200)));
    let service = started(app).await;
    out.publish("one".to_owned()).await.unwrap();
    out.try_enqueue("two".to_owned()).unwrap().confirmed().await.unwrap();
    drop(out.enqueue("three".to_owned()).await.unwrap());
    let refused = soon("refused", out.publish("four".to_owned())).await.unwrap_err();
    assert!(matches!(refused.kind(), PublishErrorKind::Overloaded), "{refused}");
    assert!(matches!(out.try_enqueue("five".to_owned()).unwrap_err().kind(), PublishErrorKind::Full));
    out.flush().await;
    assert_eq!(counts(&broker, "q").0, 3);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_publisher_takes_no_more_bytes_than_it_has_room_for_while_the_broker_is_away() {
    let broker = TestBroker::start().unwrap();
    broker.kill().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let route = Route::<String>::queue("q").max_bytes_in_flight(1000);
    let out = app.publisher(route.deadline(Duration::from_millis(200)));
    let service = app.start().await.unwrap();
    let text = || "x".repeat(400);
    for _ in 0..2 {
        drop(out.enqueue(text()).await.unwrap());
    }
    let refused = soon("refused", out.enqueue(text())).await.unwrap_err();
    assert!(matches!(refused.kind(), PublishErrorKind::Overloaded), "{refused}");
    assert!(matches!(out.try_enqueue(text()).unwrap_err().kind(), PublishErrorKind::Full));
    assert_eq!(refused.message, text(), "it is handed back");
    drop(out.enqueue("there is room for little".to_owned()).await.unwrap());
    broker.start_again().unwrap();
    soon("confirmed", out.flush()).await;
    out.publish("x".repeat(3000)).await.expect("a message larger than the whole budget goes alone");
    assert_eq!(counts(&broker, "q").0, 4);
    service.shutdown().await.unwrap();
}
