//! The promises of `fluffle::testing` to applications that test their handlers with it.

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_wire::headers::Reason;
use tokio::sync::Notify;

use crate::support::{Act, handlers, retry, soon};

fn app(broker: &TestBroker) -> (App, Publisher<String>) {
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q"));
    (app, out)
}

#[actix::test]
async fn settled_waits_for_a_service_that_has_only_begun() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    for number in 0..100 {
        drop(out.enqueue(number.to_string()).await.unwrap());
    }
    broker.settled(&service).await.unwrap();
    for number in 0..100 {
        assert_eq!(record.try_recv().expect("handled by now").text, number.to_string());
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn settled_waits_for_messages_still_in_a_publisher() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    for number in 0..20 {
        drop(out.enqueue(number.to_string()).await.unwrap());
        broker.settled(&service).await.unwrap();
        assert_eq!(record.try_recv().expect("handled by now").text, number.to_string());
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn settled_waits_for_retries_and_the_dead_letter_says_why() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let (factory, _record) = handlers(|_| Act::Err(Failure::retry("the database is away")));
    let service = app.consume(Consume::queue("q").retry(retry(3)), factory).start().await.unwrap();
    out.publish("order 7".to_owned()).await.unwrap();
    broker.settled(&service).await.unwrap();

    assert!(broker.read::<String>("q").unwrap().is_empty());
    let dead = broker.read::<String>("q.dead").unwrap();
    let [letter] = &dead[..] else { panic!("{dead:?}") };
    assert_eq!(letter.message().unwrap(), "order 7");
    let info = letter.dead_letter.as_ref().unwrap();
    assert_eq!((&info.reason, info.attempts.get()), (&Reason::AttemptsExhausted, 3));
    assert_eq!((info.error.as_str(), info.origin.queue.as_str()), ("the database is away", "q"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_does_not_end_is_not_settled_and_the_error_says_where() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (factory, _record) = handlers(move |_| Act::Wait(Arc::clone(&wait)));
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    out.publish("slow".to_owned()).await.unwrap();
    let limit = Duration::from_millis(500);
    let error = broker.settled_within(&service, limit).await.unwrap_err().to_string();
    assert!(error.contains("q: 0 ready, 1 unacked, 1 consumer"), "{error}");
    go.notify_one();
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_message_of_another_kind_is_shown_and_says_what_it_is() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let service = app.start().await.unwrap();
    out.publish("words".to_owned()).await.unwrap();
    let queued = broker.read::<Vec<u8>>("q").unwrap();
    let error = queued[0].message().unwrap_err().to_string();
    assert!(error.contains("google.protobuf.StringValue"), "{error}");
    assert_eq!(queued[0].attempt, 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_broker_that_is_stopped_and_started_again_has_kept_what_is_durable_and_the_service_finds_it() {
    let broker = TestBroker::start().unwrap();
    let (app, out) = app(&broker);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    broker.kill().unwrap();
    let receipt = out.enqueue("while it is away".to_owned()).await.unwrap();
    broker.start_again().unwrap();
    soon("confirmed", receipt.confirmed()).await.unwrap();
    broker.settled(&service).await.unwrap();
    assert_eq!(record.try_recv().unwrap().text, "while it is away");
    service.shutdown().await.unwrap();
}

/// The broker refuses a message once, and no caller waits for it. The journal keeps the message, and it is tried again.
#[actix::test]
async fn settled_waits_for_what_is_in_a_journal() {
    use fluffle::broker::{Fault, Rule};
    let (broker, folder) = (TestBroker::start().unwrap(), tempfile::tempdir().unwrap());
    broker.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(1)).unwrap();
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let (app, _) = app(&broker);
    let out = app.publisher::<String>(Route::queue("q").journal(journal).republish(Republish::Never));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    for number in 0..10 {
        let receipt = out.enqueue(number.to_string()).await.unwrap();
        drop(if number == 0 { receipt.journaled().await.unwrap() } else { receipt });
        broker.settled(&service).await.unwrap();
        assert_eq!(record.try_recv().expect("handled by now").text, number.to_string());
    }
    assert_eq!(out.stats().kept, 1, "the refusal was kept for another try");
    service.shutdown().await.unwrap();
}
