//! Middleware: what it sees before and after a handler, in which order, and what its refusals and panics cost.

use std::{cell::Cell, sync::Arc, time::Duration};

use fluffle::{
    amqp::{DeliveryInfo, HandlerResult, HandlerStep, Handling, Middleware},
    prelude::*,
    wire::{Wire, headers},
};
use lapin::BasicProperties;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

type Told = mpsc::UnboundedReceiver<String>;
type Tell = mpsc::UnboundedSender<String>;

fn app(url: &str) -> App {
    App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").dead_letter()))
}

fn q() -> Consume<String> {
    Consume::queue("q").retry(Retry::none()).handler_backoff(fast())
}

async fn next_lines(told: &mut Told, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(soon(&format!("more than {lines:?}"), told.recv()).await.expect("a line"));
    }
    lines
}

/// Until the queue is empty, nothing is unacked and the dead letters are this many.
async fn all_settled(vhost: &Place, service: &Service, dead: u64) {
    until("nothing is ready or unacked", || {
        let depth = vhost.depth("q");
        (depth.ready, depth.unacked) == (0, 0)
    })
    .await;
    // Counted a moment after the ack.
    until("that many dead letters", || service.consumers()[0].1.dead_lettered == dead).await;
}

/// Puts a batch `id` with these items into `q`.
async fn send_batch(raw: &Raw, id: &str, texts: &[&str]) {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let encoded = Wire::<String>::protobuf().encode_batch(&texts).unwrap();
    let labels = BasicProperties::default()
        .with_content_type((&*encoded.content_type).into())
        .with_type((&*encoded.type_name).into())
        .with_message_id(id.into());
    raw.put("q", &encoded.body, labels).await;
}

thread_local! {
    /// How many middlewares this thread is inside of, as a span would be entered.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Tells of what it sees: `<name> before <what>`, `<name> after <what>: <result>`.
#[derive(Clone)]
struct Observer {
    name: &'static str,
    tell: Tell,
    /// What `before` tells of a message.
    sees: fn(&DeliveryInfo<'_>) -> String,
    /// Ids of messages with which it panics, and in which call.
    panics: &'static [(&'static str, &'static str)],
    /// The id of the message it refuses.
    refuses: &'static str,
}

fn observer(name: &'static str) -> (Observer, Told) {
    let (tell, told) = mpsc::unbounded_channel();
    (Observer { name, tell, sees: id, panics: &[], refuses: "" }, told)
}

fn id(delivery: &DeliveryInfo<'_>) -> String {
    delivery.message_id().unwrap_or("-").to_owned()
}

impl Observer {
    fn panic_in(&self, call: &str, id: &str) {
        assert!(!self.panics.contains(&(id, call)), "it fell over {id}");
    }
}

impl Middleware for Observer {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        let saw = (self.sees)(delivery);
        let id = id(delivery);
        let _ = self.tell.send(format!("{} before {saw}", self.name));
        self.panic_in("before", &id);
        if id == self.refuses {
            return Err(Failure::reject(format!("{id} may not")));
        }
        Ok(Box::new(Observation { observer: self.clone(), saw, id, steps: 0 }))
    }
}

struct Observation {
    observer: Observer,
    saw: String,
    id: String,
    steps: u32,
}

impl Handling for Observation {
    fn step(&mut self, step: HandlerStep<'_>) {
        self.steps += 1;
        self.observer.panic_in(if self.steps == 1 { "call" } else { "poll" }, &self.id);
        INSIDE.set(INSIDE.get() + 1);
        step.run();
        INSIDE.set(INSIDE.get() - 1);
    }

    fn after(self: Box<Self>, result: HandlerResult<'_>) {
        let _ = self.observer.tell.send(format!("{} after {}: {result:?}", self.observer.name, self.saw));
        self.observer.panic_in("after", &self.id);
    }
}

/// What the handlers below do: `fails`, `panics`, or go well; each after a poll that was pending, if they have polls.
async fn work(text: String, polls: Tell) -> Result<(), Failure> {
    let _ = polls.send(format!("polled inside {}", INSIDE.get()));
    tokio::task::yield_now().await;
    let _ = polls.send(format!("polled inside {}", INSIDE.get()));
    at_once(&text)
}

fn at_once(text: &str) -> Result<(), Failure> {
    match text {
        "fails" => Err(Failure::reject("never")),
        "panics" => panic!("scripted panic"),
        _ => Ok(()),
    }
}

/// An actor that handles `Delivery<String>` with this result type and body.
macro_rules! handler {
    ($name:ident, $result:ty, |$this:ident, $text:ident| $body:expr) => {
        struct $name(Tell);

        impl Actor for $name {
            type Context = Context<Self>;
        }

        impl Handler<Delivery<String>> for $name {
            type Result = $result;

            fn handle(&mut self, $text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
                let _ = self.0.send(format!("called inside {}", INSIDE.get()));
                let $this = self;
                $body
            }
        }
    };
}

type Outcome = Result<(), Failure>;

handler!(Plain, Outcome, |_this, text| at_once(&text));
handler!(Apart, ResponseFuture<Outcome>, |this, text| Box::pin(work(text.into_inner(), this.0.clone())));
handler!(InContext, ResponseActFuture<Self, Outcome>, |this, text| {
    Box::pin(work(text.into_inner(), this.0.clone()).into_actor(this))
});
handler!(Atomic, AtomicResponse<Self, Outcome>, |this, text| {
    AtomicResponse::new(Box::pin(work(text.into_inner(), this.0.clone()).into_actor(this)))
});

/// Handles batches at once; messages that are `bad` fail.
struct AtOnce;

impl Actor for AtOnce {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for AtOnce {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        let mut failures = ItemFailures::none();
        for (index, text) in batch.iter().enumerate() {
            if text? == "fails" {
                failures.add(index, Failure::reject("never"));
            }
        }
        Ok(failures)
    }
}

#[actix::test]
async fn the_first_added_is_outermost_and_those_of_the_service_stand_outside_those_of_the_consumer() {
    let vhost = vhost();
    let (outer, mut told) = observer("service");
    let [first, second] = ["first", "second"].map(|name| Observer { name, ..outer.clone() });
    let consume = q().middleware(first).middleware(second);
    let tell = outer.tell.clone();
    // The app's own is added last here, and stands outside all the same.
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(consume, move || Plain(tell.clone())).middleware(outer)).await;
    out.publish_with("fine".to_owned(), MessageOptions::new().id("1")).await.unwrap();
    let before = ["service before 1", "first before 1", "second before 1", "called inside 3"];
    let after = ["second after 1: Handled", "first after 1: Handled", "service after 1: Handled"];
    assert_eq!(next_lines(&mut told, 7).await, [&before[..], &after].concat());
    all_settled(&vhost, &service, 0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_has_the_middleware_that_its_service_had_when_it_was_added() {
    let vhost = vhost();
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("r"));
    let (middleware, mut told) = observer("late");
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(App::new(broker(vhost.url())).topology(topology).consume(q(), factory)).await;
    let tell = middleware.tell.clone();
    service.middleware(middleware);
    let r = Consume::<String>::queue("r").retry(Retry::none());
    service.consume(r, move || Plain(tell.clone())).await.unwrap();
    for queue in ["q", "r"] {
        let out = service.publisher::<String>(Route::queue(queue)).await.unwrap();
        out.publish_with("fine".to_owned(), MessageOptions::new().id(queue)).await.unwrap();
    }
    assert_eq!(next(&mut record).await.text, "fine");
    assert_eq!(next_lines(&mut told, 3).await, ["late before r", "called inside 1", "late after r: Handled"]);
    service.shutdown().await.unwrap();
    assert!(told.try_recv().is_err(), "nothing of the first consumer");
}

/// Refuses messages without a header `authorization`.
struct Authorised;

impl Middleware for Authorised {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        match delivery.header("authorization") {
            Some(_) => Ok(Box::new(())),
            None => Err(Failure::reject("no header authorization")),
        }
    }
}

#[actix::test]
async fn a_refused_message_is_a_dead_letter_with_the_reason_and_no_handler_and_no_breaker_learns_of_it() {
    let vhost = vhost();
    let (outer, mut told) = observer("outer");
    let inner = Observer { name: "inner", ..outer.clone() };
    let (factory, mut record) = handlers(|_| Act::Ok);
    // Rejections by the handler would count, and the second would open it for longer than the test may take.
    let for_long = Backoff::exponential(SOON * 4, SOON * 4).unwrap();
    let breaker = CircuitBreaker::new("store").window(Window::last(2)).count_rejections().open_for(for_long);
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let consume = q().circuit_breaker(breaker).middleware(outer).middleware(Authorised).middleware(inner);
    let service = started(app.consume(consume, factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    for stranger in ["1", "2", "3"] {
        out.publish_with("stranger".to_owned(), MessageOptions::new().id(stranger)).await.unwrap();
        let dead = raw.take("q.dead").await;
        assert_eq!(dead.header(headers::REASON).unwrap(), "rejected");
        assert_eq!(dead.header(headers::ERROR).unwrap(), "no header authorization");
        let refused = format!("outer after {stranger}: Failed(Failure::reject(no header authorization))");
        assert_eq!(next_lines(&mut told, 2).await, [format!("outer before {stranger}"), refused]);
    }
    let options = MessageOptions::new().id("4").header("authorization", "Bearer me");
    out.publish_with("friend".to_owned(), options).await.unwrap();
    assert_eq!(next(&mut record).await.text, "friend");
    let lines = ["outer before 4", "inner before 4", "inner after 4: Handled", "outer after 4: Handled"];
    assert_eq!(next_lines(&mut told, 4).await, lines);
    all_settled(&vhost, &service, 3).await;
    assert!(record.try_recv().is_err(), "the handler had nothing else");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn each_attempt_shows_its_number_and_the_labels_and_headers_of_the_message() {
    let vhost = vhost();
    let (mut middleware, mut told) = observer("it");
    middleware.sees = |delivery| {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let labels = [delivery.message_id(), delivery.content_type(), delivery.type_name(), delivery.correlation_id()];
        let (tenant, shard) = (text(delivery.header("tenant")), delivery.header_integer("shard"));
        let labels = labels.map(text).join(" ");
        format!("{} of {}: {labels} {tenant} {shard:?}", delivery.attempt(), delivery.queue())
    };
    let (factory, _record) = handlers(|seen| match seen.attempt {
        1 => Act::Err(Failure::retry("not yet")),
        _ => Act::Ok,
    });
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(q().retry(retry(2)).middleware(middleware), factory)).await;
    let options = MessageOptions::new().id("1").correlation_id("c").header("tenant", "t").header_integer("shard", 7);
    out.publish_with("fails once".to_owned(), options).await.unwrap();
    let encoded = Wire::<String>::protobuf().encode(&String::new()).unwrap();
    let labels = format!("of q: 1 {} {} c t Some(7)", encoded.content_type, encoded.type_name);
    let expected = [
        format!("it before 1 {labels}"),
        format!("it after 1 {labels}: Failed(Failure::retry(not yet))"),
        format!("it before 2 {labels}"),
        format!("it after 2 {labels}: Handled"),
    ];
    assert_eq!(next_lines(&mut told, 4).await, expected);
    all_settled(&vhost, &service, 0).await;
    service.shutdown().await.unwrap();
}

/// A message that goes well, one that fails and one that panics, through a handler of each kind. `polls`: what the
/// handler's future tells of two polls.
async fn each_outcome<A: fluffle::amqp::Handles<String>>(kind: &str, handler: fn(Tell) -> A, polls: &[&str]) {
    let vhost = vhost();
    let (middleware, mut told) = observer("it");
    let tell = middleware.tell.clone();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let consume = q().concurrency(1).middleware(middleware);
    let service = started(app.consume(consume, move || handler(tell.clone()))).await;
    for (text, result) in [("fine", "Handled"), ("fails", "Failed(Failure::reject(never))"), ("panics", "Crashed")] {
        out.publish_with(text.to_owned(), MessageOptions::new().id("1")).await.unwrap();
        let after = format!("it after 1: {result}");
        let expected = [&["it before 1", "called inside 1"], polls, &[&after]].concat();
        assert_eq!(next_lines(&mut told, expected.len()).await, expected, "{kind}: {text}");
    }
    all_settled(&vhost, &service, 2).await;
    service.shutdown().await.unwrap();
    assert!(told.try_recv().is_err(), "{kind}: each was told once");
}

#[actix::test]
async fn the_result_of_each_kind_of_handler_is_told_and_each_poll_that_can_be_is_inside() {
    each_outcome("a plain result", Plain, &[]).await;
    each_outcome("ResponseFuture", Apart, &["polled inside 1", "polled inside 1"]).await;
    each_outcome("ResponseActFuture", InContext, &["polled inside 1", "polled inside 1"]).await;
    each_outcome("AtomicResponse", Atomic, &["polled inside 0", "polled inside 0"]).await;
}

/// The kinds of handler that go another way when there is middleware.
#[actix::test]
async fn without_middleware_a_handler_of_each_kind_runs_as_actix_runs_it() {
    async fn handled<A: fluffle::amqp::Handles<String>>(handler: fn(Tell) -> A, polls: usize) {
        let vhost = vhost();
        let (tell, mut told) = mpsc::unbounded_channel();
        let app = app(vhost.url());
        let out = app.publisher::<String>(Route::queue("q"));
        let service = started(app.consume(q(), move || handler(tell.clone()))).await;
        out.publish("fine".to_owned()).await.unwrap();
        let lines = [vec!["called inside 0"], vec!["polled inside 0"; polls]].concat();
        assert_eq!(next_lines(&mut told, 1 + polls).await, lines);
        until("it is handled", || service.consumers()[0].1.handled == 1).await;
        service.shutdown().await.unwrap();
    }
    handled(Plain, 0).await;
    handled(Apart, 2).await;
    handled(InContext, 2).await;
    handled(Atomic, 2).await;
}

#[actix::test]
async fn items_by_themselves_are_seen_one_by_one_and_refused_one_by_one() {
    for by_key in [false, true] {
        let vhost = vhost();
        let (mut middleware, mut told) = observer("it");
        middleware.sees =
            |delivery| format!("{} {:?} of {:?}", id(delivery), delivery.batch_index(), delivery.batch_len());
        middleware.refuses = "b/1";
        let (factory, mut record) = handlers(|seen| match seen.text.as_str() {
            "fails" => Act::Err(Failure::reject("never")),
            _ => Act::Ok,
        });
        let consume = q().middleware(middleware);
        let consume = if by_key { consume.ordered_by(|_| 1).instances(1) } else { consume.concurrency(1) };
        let service = started(app(vhost.url()).consume(consume, factory)).await;
        let raw = Raw::connect(vhost.url()).await;
        send_batch(&raw, "b", &["fine", "refused", "fails", "fine too"]).await;
        let expected = [
            "it before b/0 Some(0) of Some(4)",
            "it after b/0 Some(0) of Some(4): Handled",
            "it before b/1 Some(1) of Some(4)",
            "it before b/2 Some(2) of Some(4)",
            "it after b/2 Some(2) of Some(4): Failed(Failure::reject(never))",
            "it before b/3 Some(3) of Some(4)",
            "it after b/3 Some(3) of Some(4): Handled",
        ];
        assert_eq!(next_lines(&mut told, 7).await, expected, "by key: {by_key}");
        for text in ["fine", "fails", "fine too"] {
            assert_eq!(next(&mut record).await.text, text);
        }
        let mut errors = Vec::new();
        for _ in 0..2 {
            errors.push(raw.take("q.dead").await.header(headers::ERROR).unwrap());
        }
        assert_eq!(errors, ["b/1 may not", "never"]);
        all_settled(&vhost, &service, 2).await;
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn a_batch_at_once_is_seen_once_with_the_items_that_failed_and_refused_as_a_whole() {
    let vhost = vhost();
    let (mut middleware, mut told) = observer("it");
    middleware.sees = |delivery| format!("{} {:?} of {:?}", id(delivery), delivery.batch_index(), delivery.batch_len());
    middleware.refuses = "c";
    let service = started(app(vhost.url()).consume_batches(q().middleware(middleware), || AtOnce)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "a", &["fine", "fine"]).await;
    send_batch(&raw, "b", &["fine", "fails"]).await;
    send_batch(&raw, "c", &["fine", "fine"]).await;
    let expected = [
        "it before a None of Some(2)",
        "it after a None of Some(2): Handled",
        "it before b None of Some(2)",
        "it after b None of Some(2): ItemsFailed([(1, Failure::reject(never))])",
        "it before c None of Some(2)",
    ];
    assert_eq!(next_lines(&mut told, 5).await, expected);
    let mut errors = Vec::new();
    for _ in 0..3 {
        errors.push(raw.take("q.dead").await.header(headers::ERROR).unwrap());
    }
    errors.sort();
    assert_eq!(errors, ["c may not", "c may not", "never"]);
    all_settled(&vhost, &service, 3).await;
    service.shutdown().await.unwrap();
}

handler!(Waits, ResponseActFuture<Self, Outcome>, |this, text| {
    let polls = this.0.clone();
    Box::pin(
        async move {
            if *text == "waits" {
                polls.send("waiting".to_owned()).unwrap();
                std::future::pending::<()>().await;
            }
            at_once(&text)
        }
        .into_actor(this),
    )
});

/// Panics with the first of two messages in each call; the second is handled by the same actor.
#[actix::test]
async fn a_panic_of_a_middleware_is_charged_to_its_message_alone() {
    let all: [&'static [_]; 4] = [&[("1", "before")], &[("1", "call")], &[("1", "poll")], &[("1", "after")]];
    for panics in all {
        let kind = panics[0].1;
        let vhost = vhost();
        let (mut middleware, mut told) = observer("it");
        middleware.panics = panics;
        let (tell, _calls) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let held = Arc::clone(&go);
        let app = app(vhost.url());
        let out = app.publisher::<String>(Route::queue("q"));
        let consume = q().middleware(middleware);
        let factory = move || Held { go: Arc::clone(&held), tell: tell.clone() };
        let service = started(app.consume(consume, factory)).await;
        let send = async |text: &str, id| {
            out.publish_with(text.to_owned(), MessageOptions::new().id(id)).await.unwrap();
        };
        send("held", "0").await;
        assert_eq!(next_lines(&mut told, 1).await, ["it before 0"]);
        send("fine", "1").await;
        let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
        let error = "the middleware around the handler panicked: it fell over 1";
        assert_eq!(dead.header(headers::ERROR).unwrap(), error, "{kind}");
        send("fine", "2").await;
        go.notify_one();
        let mut lines = Vec::new();
        while !["it after 0: Handled", "it after 2: Handled"].iter().all(|line| lines.contains(&line.to_string())) {
            lines.extend(next_lines(&mut told, 1).await);
        }
        all_settled(&vhost, &service, 1).await;
        assert_eq!(service.snapshot().find("app/handlers/q/0").unwrap().restarts, 0, "{kind}: the actor goes on");
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn a_panic_of_a_middleware_around_a_future_apart_from_its_actor_or_an_item_is_charged_to_it_alone() {
    let vhost = vhost();
    let (mut middleware, mut told) = observer("it");
    middleware.panics = &[("1", "poll"), ("b/1", "before"), ("b/2", "call"), ("b/3", "poll"), ("b/4", "after")];
    let (tell, _calls) = mpsc::unbounded_channel();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let consume = q().middleware(middleware);
    let service = started(app.consume(consume, move || Apart(tell.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    let error = |id: &str| format!("the middleware around the handler panicked: it fell over {id}");
    out.publish_with("fine".to_owned(), MessageOptions::new().id("1")).await.unwrap();
    assert_eq!(raw.take("q.dead").await.header(headers::ERROR).unwrap(), error("1"));
    assert_eq!(next_lines(&mut told, 2).await, ["it before 1", "it after 1: Crashed"]);
    send_batch(&raw, "b", &["fine"; 6]).await;
    let mut errors = Vec::new();
    for _ in 0..4 {
        errors.push(raw.take("q.dead").await.header(headers::ERROR).unwrap());
    }
    assert_eq!(errors, ["b/1", "b/2", "b/3", "b/4"].map(error));
    all_settled(&vhost, &service, 5).await;
    until("two are handled", || service.consumers()[0].1.handled == 2).await;
    assert_eq!(service.snapshot().find("app/handlers/q/0").unwrap().restarts, 0, "the actor goes on");
    service.shutdown().await.unwrap();
}

/// Handles in its own context. A `held` message waits for `go`.
struct Held {
    go: Arc<Notify>,
    tell: Tell,
}

impl Actor for Held {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Held {
    type Result = ResponseActFuture<Self, Outcome>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (go, tell) = (Arc::clone(&self.go), self.tell.clone());
        let work = async move {
            if *text == "held" {
                go.notified().await;
            }
            work(text.into_inner(), tell).await
        };
        Box::pin(work.into_actor(self))
    }
}

#[actix::test]
async fn a_crash_of_the_actor_is_told_for_each_message_it_took_along() {
    let vhost = vhost();
    let (middleware, mut told) = observer("it");
    let tell = middleware.tell.clone();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(q().middleware(middleware), move || Waits(tell.clone()))).await;
    out.publish_with("waits".to_owned(), MessageOptions::new().id("1")).await.unwrap();
    assert_eq!(next_lines(&mut told, 3).await, ["it before 1", "called inside 1", "waiting"]);
    out.publish_with("panics".to_owned(), MessageOptions::new().id("2")).await.unwrap();
    let mut lines = next_lines(&mut told, 4).await;
    lines.sort();
    assert_eq!(lines, ["called inside 1", "it after 1: Crashed", "it after 2: Crashed", "it before 2"]);
    until("both have their outcome", || service.consumers()[0].1.dead_lettered == 2).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_result_that_comes_too_late_is_told_when_it_comes() {
    let vhost = vhost();
    let (middleware, mut told) = observer("it");
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, _record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let consume = q().handler_timeout(Duration::from_millis(100)).middleware(middleware);
    let service = started(app.consume(consume, factory)).await;
    out.publish_with("slow".to_owned(), MessageOptions::new().id("1")).await.unwrap();
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert!(dead.header(headers::ERROR).unwrap().contains("did not answer within"));
    assert_eq!(next_lines(&mut told, 1).await, ["it before 1"]);
    assert!(told.try_recv().is_err(), "the handler has not answered yet");
    go.notify_one();
    assert_eq!(next_lines(&mut told, 1).await, ["it after 1: Handled"]);
    service.shutdown().await.unwrap();
}
