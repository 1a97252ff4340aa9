//! Messages that a queue refuses for a reason that may pass.

use std::time::Duration;

use fluffle::{
    broker::{Fault, Rule},
    prelude::*,
    testing::TestBroker,
};
use tokio::sync::mpsc;

use crate::support::*;

fn topology() -> Topology {
    let small = Queue::classic("small").max_length(1).overflow(Overflow::RejectPublish);
    Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("other")).queue(small)
}

#[actix::test]
async fn what_an_election_refuses_is_published_again_in_its_place_and_other_queues_do_not_wait() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology());
    let out = app.publisher::<String>(
        Route::exchange("").key_by(
            |text: &String| {
                if text.starts_with("other") { "other".to_owned() } else { "q".to_owned() }
            },
        ),
    );
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app.consume(Consume::queue("q"), move || Numbers(seen.clone()))).await;
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(5)).unwrap();
    let waiting: Vec<_> = {
        let mut receipts = Vec::new();
        for number in 0..100 {
            receipts.push(out.enqueue(number.to_string()).await.unwrap());
        }
        receipts
    };
    until("the first is refused", || nacks.fired() >= 1).await;
    soon("another queue", out.publish("other".to_owned())).await.unwrap();
    for receipt in waiting {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    assert_eq!(nacks.fired(), 5);
    for expected in 0..100 {
        assert_eq!(soon("a delivery", record.recv()).await, Some(expected));
    }
    assert_eq!((out.stats().confirmed, out.stats().nacked, out.stats().republished), (101, 0, 5));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn who_wants_to_hear_of_each_refusal_does_at_once() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology());
    let out = app.publisher::<String>(Route::queue("q").republish(Republish::Never));
    let service = started(app).await;
    broker.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(1)).unwrap();
    let error = soon("an answer", out.publish("m".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Nacked), "{error}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_refusal_that_lasts_is_told_before_the_deadline_with_its_reason() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology());
    let out = app.publisher::<String>(Route::queue("q").deadline(Duration::from_millis(600)));
    let service = started(app).await;
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q")).unwrap();
    let error = soon("an answer", out.publish("m".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Nacked), "{error}");
    assert!(nacks.fired() > 1, "it was tried again");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_full_queue_is_waited_for_only_by_who_asks_for_it() {
    let place = vhost();
    let app = App::new(broker(place.url())).topology(topology());
    let told = app.publisher::<String>(Route::queue("small").name("told"));
    let patient = app.publisher::<String>(Route::queue("small").republish(Republish::Full).name("patient"));
    let service = started(app).await;
    soon("the first", told.publish("1".to_owned())).await.unwrap();
    let error = soon("an answer", told.publish("2".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Nacked), "{error}");
    let waiting = actix::spawn({
        let patient = patient.clone();
        async move { patient.publish("3".to_owned()).await }
    });
    until("it was refused and tried again", || patient.stats().republished > 0).await;
    let raw = Raw::connect(place.url()).await;
    raw.take("small").await;
    soon("room", waiting).await.unwrap().unwrap();
    service.shutdown().await.unwrap();
}
