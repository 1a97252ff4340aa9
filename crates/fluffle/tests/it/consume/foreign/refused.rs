//! A copy that the broker refuses is published in another form, and other messages are not charged. On the embedded
//! broker, which the test can make refuse.

use std::time::Duration;

use fluffle::{
    broker::{Event, Fault, FaultHandle, Rule},
    testing::TestBroker,
};

use super::*;

struct Refusing {
    broker: TestBroker,
    service: Service,
    out: Publisher<String>,
    foreign: Publisher<String>,
    record: Record,
}

impl Refusing {
    async fn start(failure: fn() -> Failure) -> Self {
        let broker = TestBroker::start().unwrap();
        let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("other"));
        let client = broker.client().unwrap().reconnect(crate::support::fast());
        let app = App::new(client).topology(topology);
        let out = app.publisher(Route::queue("other"));
        let foreign = app.publisher(Route::queue("q"));
        let (factory, record) = handlers(move |seen| if seen.attempt == 1 { Act::Err(failure()) } else { Act::Ok });
        let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
        Self { broker, service, out, foreign, record }
    }

    /// Publishes a message with headers of its sender, and waits until a handler has it.
    async fn put(&mut self) {
        let options = MessageOptions::new().id("m1").correlation_id("c1").header("theirs", "x");
        soon("published", self.foreign.publish_with("text".to_owned(), options)).await.unwrap();
        assert_eq!(next(&mut self.record).await.text, "text");
    }

    /// Makes the broker close the channel when a message is published to `queue`. The queue gets the message all the
    /// same, but the publisher gets no confirm.
    fn refuse(&self, queue: &str, times: u64) -> FaultHandle {
        let inject = |fault| {
            self.broker.faults().inject(Rule::new(fault).at(Event::Published).on_queue(queue).times(times)).unwrap()
        };
        inject(Fault::DropConfirm);
        inject(Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - not like this".to_owned() })
    }
}

#[actix::test]
async fn a_dead_letter_that_the_broker_refuses_is_placed_without_its_senders_headers() {
    let mut bench = Refusing::start(|| Failure::reject("never")).await;
    // After two refusals the publisher knows that this message is the cause.
    let refused = bench.refuse("q.dead", 2);
    bench.put().await;
    soon("others go on", bench.out.publish("beside".to_owned())).await.unwrap();
    soon("settled", bench.broker.settled(&bench.service)).await.unwrap();
    assert_eq!(refused.fired(), 2);
    let dead = bench.broker.messages("q.dead").unwrap().pop().unwrap();
    let names: Vec<&str> = dead.headers.keys().map(String::as_str).collect();
    assert!(!names.contains(&"theirs"), "{names:?}");
    assert!(names.contains(&"x-fluffle-reason") && names.contains(&"x-fluffle-error"), "{names:?}");
}

#[actix::test]
async fn a_retry_copy_that_the_broker_refuses_keeps_its_attempt_and_its_wait() {
    let mut bench = Refusing::start(|| Failure::retry("not yet")).await;
    bench.refuse("q.retry.50", 2);
    bench.put().await;
    assert_eq!(next(&mut bench.record).await.attempt, 2);
    soon("settled", bench.broker.settled(&bench.service)).await.unwrap();
    assert!(bench.broker.messages("q.dead").unwrap().is_empty());
}

#[actix::test]
async fn a_copy_that_is_refused_in_any_form_is_not_published_in_a_hurry_and_its_original_stays() {
    let mut bench = Refusing::start(|| Failure::reject("never")).await;
    let refused = bench.refuse("q.dead", u64::MAX);
    bench.put().await;
    until("both forms were refused", || refused.fired() >= 4).await;
    // Each form is refused twice, so four refusals are both forms. After that the copy is tried again with growing
    // waits.
    let begun = std::time::Instant::now();
    until("it is tried again", || refused.fired() >= 8).await;
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    soon("others go on", bench.out.publish("beside".to_owned())).await.unwrap();
    assert_eq!(bench.broker.snapshot().unwrap().queue("q").unwrap().unacked, 1, "the original must stay unacked");
    bench.broker.faults().heal_all().unwrap();
    soon("settled", bench.broker.settled(&bench.service)).await.unwrap();
}
