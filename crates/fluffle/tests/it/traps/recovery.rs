//! Traps of recovery: a cancel, a timeout, a second failure, a close without an answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{
    broker::{Event, Fault, Rule, Target},
    prelude::*,
    testing::TestBroker,
};
use tokio::sync::Notify;

use crate::support::{
    process::{Log, SECONDS, service, this_test},
    *,
};

/// Since RabbitMQ 4.3, a consumer that exceeds the broker's timeout gets `basic.cancel`, like a consumer whose queue is
/// deleted. Its channel stays open.
#[actix::test]
async fn a_basic_cancel_is_no_clean_end_what_was_in_hand_comes_again_to_a_consumer_that_consumes_again() {
    let embedded = TestBroker::start().unwrap();
    let (app, out) = app(&embedded.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(
            move |seen| {
                if seen.text == "slow" && !seen.redelivered { Act::Wait(Arc::clone(&gate)) } else { Act::Ok }
            },
        );
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["slow"]).await;
    assert!(!next(&mut record).await.redelivered);
    embedded.faults().strike(Fault::CancelConsumer, Target::queue("q")).unwrap();
    let again = next(&mut record).await;
    assert!(again.redelivered && again.attempt == 1, "{again:?}");
    go.notify_one();
    until("the late work is noted", || stats(&service).work_done_ack_lost == 1).await;
    publish(&out, &["next"]).await;
    assert_eq!(next(&mut record).await.text, "next");
    until("both are handled", || stats(&service).handled == 2).await;
    assert!(service.connections().iter().all(|one| one.connects == 1), "a cancel must not cost a connection");
    service.shutdown().await.unwrap();
}

#[test]
fn a_handler_half_way_to_consumer_timeout_is_warned_about_before_the_broker_acts() {
    let name = this_test!();
    let program = service(name, Log::On, || async {
        let (app, _out) = app(&std::env::var("AMQP_URL").unwrap());
        let (factory, _record) = handlers(|_| Act::Hang);
        let consume = Consume::<String>::queue("q").consumer_timeout(Duration::from_secs(2));
        app.consume(consume, factory).run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["consuming"], SECONDS);
    actix::System::new().block_on(async {
        let (body, labels) = encoded("slow");
        Raw::connect(vhost.url()).await.put("q", &body, labels.with_message_id("slow-1".into())).await;
    });
    let warning = process.line(&["WARN", "half way to the broker's consumer_timeout"], SECONDS);
    for word in ["slow-1", "queue=q", "consumer_timeout=Some(2s)"] {
        assert!(warning.contains(word), "{warning}");
    }
}

/// The connection is cut each time it was just opened, during the declarations.
#[actix::test]
async fn a_recovery_interrupted_by_a_second_failure_starts_over() {
    let embedded = TestBroker::start().unwrap();
    let (app, out) = app(&embedded.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    let again = embedded.faults().inject(Rule::new(Fault::Cut).at(Event::Opened).times(6)).unwrap();
    embedded.faults().strike(Fault::Cut, Target::all()).unwrap();
    again.wait_fired(6, SOON).unwrap();
    soon("published", out.publish("after all that".to_owned())).await.unwrap();
    assert_eq!(next(&mut record).await.text, "after all that");
    service.shutdown().await.unwrap();
}

/// lapin's `close` waits for an answer, which a half-open connection never delivers.
#[actix::test]
async fn a_close_that_is_never_answered_ends_the_service_all_the_same() {
    let embedded = TestBroker::start().unwrap();
    let client = embedded.client().unwrap().close_timeout(Duration::from_millis(300));
    let app = App::new(client).drain_within(Duration::from_millis(300));
    let app = app.topology(Topology::new().queue(Queue::quorum("q")));
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::<String>::queue("q"), factory)).await;
    embedded.faults().strike(Fault::HalfOpen, Target::all()).unwrap();
    let begun = Instant::now();
    soon("the end", service.shutdown()).await.unwrap();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
}
