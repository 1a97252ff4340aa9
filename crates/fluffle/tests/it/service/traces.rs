//! The trace of a message in a service without any tracing library: it is passed on as it is, on every way that a
//! message can take.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fluffle::{
    amqp::{
        CreateSpan, DeliveryInfo, HandlerStep, Handling, MessageOptions, Middleware, Observer, PublishInfo,
        PublishResult, PublishSpan, PublishTracer, PublisherLabels, Replay, RequestOptions, trace,
    },
    prelude::*,
    wire::headers::{ATTEMPT_TRACE, ITEM_TRACES, TRACEPARENT, TRACESTATE, TraceContext},
};
use tokio::sync::{Barrier, mpsc};

use crate::support::*;

/// A span that is told by its number.
fn span(number: u8) -> TraceContext {
    TraceContext::new([number; 16], [number; 8], true).unwrap()
}

fn traced(number: u8) -> MessageOptions {
    MessageOptions::new().trace(&span(number))
}

/// The span that sent the message, by its number.
fn number(trace: Option<TraceContext>) -> Option<u8> {
    trace.map(|trace| trace.span_id()[0])
}

/// An actor that handles a `Delivery<String>` with this result type and body.
macro_rules! handler {
    ($actor:ident { $($field:ident: $of:ty),* }, $result:ty, |$this:ident, $text:ident| $body:expr) => {
        #[derive(Clone)]
        struct $actor { $($field: $of),* }

        impl Actor for $actor { type Context = Context<Self>; }

        impl Handler<Delivery<String>> for $actor {
            type Result = $result;

            fn handle(&mut self, $text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
                let $this = self.clone();
                $body
            }
        }
    };
}

type Answer = Result<(), Failure>;

handler!(AtOnce { out: Publisher<String> }, Answer, |this, text| {
    drop(this.out.try_enqueue(text.clone()).unwrap());
    Ok(())
});

/// Meets the other message inside the handler, so that their polls alternate.
async fn publish_beside_another(out: Publisher<String>, both: Arc<Barrier>, text: String) -> Answer {
    both.wait().await;
    out.publish(text).await?;
    both.wait().await;
    Ok(())
}

handler!(Apart { out: Publisher<String>, both: Arc<Barrier> }, ResponseFuture<Answer>, |this, text| {
    Box::pin(publish_beside_another(this.out, this.both, text.clone()))
});

handler!(InTheActor { out: Publisher<String>, both: Arc<Barrier> }, ResponseActFuture<Self, Answer>, |this, text| {
    Box::pin(publish_beside_another(this.out.clone(), Arc::clone(&this.both), text.clone()).into_actor(&this))
});

fn topology() -> Topology {
    Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("out"))
}

/// The messages in `out`, each with its span.
async fn sent_on(raw: &Raw, count: usize) -> Vec<Option<String>> {
    let mut spans = Vec::new();
    for _ in 0..count {
        spans.push(raw.take("out").await.header(TRACEPARENT));
    }
    spans.sort();
    spans
}

#[actix::test]
async fn what_a_handler_publishes_carries_the_trace_of_its_message_and_nothing_else_does() {
    let both = Arc::new(Barrier::new(2));
    for kind in 0..3 {
        let vhost = vhost();
        let app = App::new(broker(vhost.url())).topology(topology());
        let (to_q, out) = (app.publisher(Route::queue("q")), app.publisher::<String>(Route::queue("out")));
        let (q, both) = (Consume::queue("q").concurrency(2), Arc::clone(&both));
        let app = match kind {
            0 => app.consume(q, move || AtOnce { out: out.clone() }),
            1 => app.consume(q, move || Apart { out: out.clone(), both: Arc::clone(&both) }),
            _ => app.consume(q, move || InTheActor { out: out.clone(), both: Arc::clone(&both) }),
        };
        let service = started(app).await;
        let raw = Raw::connect(vhost.url()).await;
        let sent = [MessageOptions::new(), traced(1), traced(2), MessageOptions::new()];
        for options in sent {
            soon("confirmed", to_q.enqueue_with("text".to_owned(), options)).await.unwrap().confirmed().await.unwrap();
        }
        let spans = sent_on(&raw, 4).await;
        let expected = [None, None, Some(span(1).traceparent()), Some(span(2).traceparent())];
        assert_eq!(spans, expected, "handlers of kind {kind}");
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn a_trace_is_passed_on_with_its_state_and_given_options_come_first() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(topology());
    let out = app.publisher::<String>(Route::queue("out"));
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;
    let current = span(1).with_state("vendor=7").unwrap();
    drop(trace::within(current.clone(), || out.try_enqueue("as it is".to_owned())).unwrap());
    let passed_on = raw.take("out").await;
    assert_eq!(passed_on.header(TRACEPARENT), Some(span(1).traceparent()));
    assert_eq!(passed_on.header(TRACESTATE).as_deref(), Some("vendor=7"));
    let publish = |options| {
        let mut publishing = Box::pin(out.publish_with("another".to_owned(), options));
        let current = current.clone();
        std::future::poll_fn(move |cx| trace::within(current.clone(), || publishing.as_mut().poll(cx)))
    };
    publish(traced(2)).await.unwrap();
    let given = raw.take("out").await;
    assert_eq!((given.header(TRACEPARENT), given.header(TRACESTATE)), (Some(span(2).traceparent()), None));
    assert_eq!(trace::current(), None);
    service.shutdown().await.unwrap();
}

/// The span of a message, and that of the attempt before.
type Saw = (Option<u8>, Option<u8>);

/// Gives each attempt a span of its own, and tells what it saw.
#[derive(Clone)]
struct Attempts {
    tell: mpsc::UnboundedSender<Saw>,
    next: Arc<Mutex<u8>>,
}

struct OneAttempt(TraceContext);

impl Middleware for Attempts {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let _ = self.tell.send((number(delivery.trace()), number(delivery.last_attempt_trace().cloned())));
        Ok(Box::new(OneAttempt(span(*next))))
    }
}

impl Handling for OneAttempt {
    fn trace(&self) -> Option<TraceContext> {
        Some(self.0.clone())
    }

    fn step(&mut self, step: HandlerStep<'_>) {
        assert_eq!(trace::current(), Some(self.0.clone()), "the handler is in the span of its attempt");
        step.run();
    }
}

/// A middleware whose spans are numbered from 101, and what it tells.
fn attempts() -> (Attempts, mpsc::UnboundedReceiver<Saw>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Attempts { tell, next: Arc::new(Mutex::new(100)) }, told)
}

#[actix::test]
async fn retries_dead_letters_and_replays_keep_the_trace_and_name_the_attempt_before() {
    for in_place in [false, true] {
        let vhost = vhost();
        let (spans, mut told) = attempts();
        let (factory, _record) =
            handlers(|seen| if seen.text == "fails" { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
        let retry = if in_place { retry(2).in_process_below(Duration::from_secs(1)).unwrap() } else { retry(2) };
        let q = Consume::queue("q").retry(retry).middleware(spans);
        let (app, out) = app(vhost.url());
        let service = started(app.consume(q, factory)).await;
        out.publish_with("fails".to_owned(), traced(1)).await.unwrap();
        assert_eq!(soon("an attempt", told.recv()).await, Some((Some(1), None)), "in place: {in_place}");
        assert_eq!(soon("an attempt", told.recv()).await, Some((Some(1), Some(101))), "in place: {in_place}");
        until("a dead letter", || stats(&service).dead_lettered == 1).await;
        let replay = Replay::from("q.dead");
        soon("a replay", replay.run(&broker(vhost.url()))).await.unwrap();
        assert_eq!(soon("an attempt", told.recv()).await, Some((Some(1), Some(102))), "replayed");
        until("another dead letter", || stats(&service).dead_lettered == 2).await;
        let letter = Raw::connect(vhost.url()).await.take("q.dead").await;
        assert_eq!(letter.header(TRACEPARENT), Some(span(1).traceparent()));
        assert_eq!(letter.header(ATTEMPT_TRACE), Some(span(104).traceparent()));
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn an_attempt_without_a_span_is_not_taken_for_the_one_before_it() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Err(Failure::reject("never")));
    let (app, out) = app(vhost.url());
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    // Replayed: its last attempt had a span.
    let options = traced(1).header(ATTEMPT_TRACE, span(9).traceparent());
    out.publish_with("fails".to_owned(), options).await.unwrap();
    next(&mut record).await;
    let letter = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert_eq!(letter.header(TRACEPARENT), Some(span(1).traceparent()));
    assert_eq!(letter.header(ATTEMPT_TRACE), None);
    service.shutdown().await.unwrap();
}

/// Tells the span of each message, and fails on the first attempt at `fails`.
#[derive(Clone)]
struct Tells(mpsc::UnboundedSender<(String, Option<u8>, Option<String>)>);

impl Actor for Tells {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Tells {
    type Result = Result<String, Failure>;

    fn handle(&mut self, text: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let of_items = text.header(ITEM_TRACES).map(str::to_owned);
        let _ = self.0.send((text.clone(), number(text.trace()), of_items));
        if *text == "fails" && text.attempt() == 1 { Err(Failure::retry("not yet")) } else { Ok(text.to_uppercase()) }
    }
}

handler!(Asks { shouter: Requester<String, String> }, ResponseFuture<Answer>, |this, text| Box::pin(async move {
    tokio::task::yield_now().await;
    this.shouter.request(text.clone()).await?;
    this.shouter.request_with(text.clone(), RequestOptions::new().trace(&span(9))).await?;
    Ok(())
}));

#[actix::test]
async fn a_request_carries_the_trace_of_the_handler_that_asks() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(topology().queue(Queue::quorum("shout")));
    let to_q = app.publisher(Route::queue("q"));
    let shouter = app.requester::<String, String>(Route::queue("shout"));
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = app
        .consume(Consume::queue("q"), move || Asks { shouter: shouter.clone() })
        .consume(Consume::queue("shout"), move || Tells(tell.clone()));
    let service = started(app).await;
    to_q.publish_with("hello".to_owned(), traced(1)).await.unwrap();
    assert_eq!(soon("a request", told.recv()).await.unwrap().1, Some(1));
    assert_eq!(soon("a request", told.recv()).await.unwrap().1, Some(9), "its options come first");
    until("answered", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_journal_keeps_the_trace() {
    let (vhost, folder) = (vhost(), tempfile::tempdir().unwrap());
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let app = App::new(broker(vhost.url())).topology(topology());
    let to_q = app.publisher(Route::queue("q"));
    let out = app.publisher::<String>(Route::queue("out").journal(journal));
    let both = Arc::new(Barrier::new(1));
    let app = app.consume(Consume::queue("q"), move || Apart { out: out.clone(), both: Arc::clone(&both) });
    let service = started(app).await;
    to_q.publish_with("text".to_owned(), traced(1)).await.unwrap();
    assert_eq!(sent_on(&Raw::connect(vhost.url()).await, 1).await, [Some(span(1).traceparent())]);
    service.shutdown().await.unwrap();
}

handler!(Prepares { route: Arc<Route<String>>, out: Forwarder }, ResponseFuture<Answer>, |this, text| {
    Box::pin(async move {
        tokio::task::yield_now().await;
        let prepared = this.route.prepare(&text, &MessageOptions::new()).unwrap();
        // As an outbox does: stored as bytes, and published later where the trace of the handler is not known.
        let stored = prepared.to_bytes().unwrap();
        actix::spawn(async move { this.out.publish(Prepared::from_bytes(stored).unwrap()).await.unwrap() });
        Ok(())
    })
});

#[actix::test]
async fn a_message_that_a_handler_prepares_carries_its_trace() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(topology());
    let (to_q, out) = (app.publisher(Route::queue("q")), app.forwarder("outbox"));
    let route = Arc::new(Route::queue("out"));
    let app = app.consume(Consume::queue("q"), move || Prepares { route: Arc::clone(&route), out: out.clone() });
    let service = started(app).await;
    to_q.publish_with("text".to_owned(), traced(1)).await.unwrap();
    assert_eq!(sent_on(&Raw::connect(vhost.url()).await, 1).await, [Some(span(1).traceparent())]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn each_message_of_a_batch_has_its_own_trace_and_keeps_it_when_it_is_retried_by_itself() {
    let vhost = vhost();
    let (app, _) = app(vhost.url());
    let linger = Batching::default().linger(Duration::from_secs(60));
    let out = app.publisher::<String>(Route::queue("q").batch(linger));
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = started(app.consume(Consume::queue("q").retry(retry(2)), move || Tells(tell.clone()))).await;
    for (text, number) in [("a", Some(1)), ("fails", Some(2)), ("c", None)] {
        let enqueue = || out.try_enqueue(text.to_owned());
        drop(number.map_or_else(enqueue, |number| trace::within(span(number), enqueue)).unwrap());
    }
    soon("confirmed", out.flush()).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (text, span, of_items) = soon("a message", told.recv()).await.unwrap();
        seen.push((text, span, of_items.is_some()));
    }
    let expected = [("a", Some(1), true), ("fails", Some(2), true), ("c", None, true), ("fails", Some(2), false)];
    assert_eq!(seen, expected.map(|(text, span, in_batch)| (text.to_owned(), span, in_batch)));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_of_one_trace_says_so_once() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(topology());
    let out = app.publisher::<String>(Route::queue("out").batch(Batching::default()));
    let service = started(app).await;
    for text in ["a", "b"] {
        drop(trace::within(span(1), || out.try_enqueue(text.to_owned())).unwrap());
    }
    soon("confirmed", out.flush()).await;
    let batch = Raw::connect(vhost.url()).await.take("out").await;
    assert_eq!((batch.header(TRACEPARENT), batch.header(ITEM_TRACES)), (Some(span(1).traceparent()), None));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_of_too_many_traces_arrives_with_those_that_have_room() {
    for frame_max in ["", "?frame_max=8192"] {
        let vhost = vhost();
        let url = format!("{}{frame_max}", vhost.url());
        let (app, _) = app(&url);
        let batching = Batching::default().linger(Duration::from_secs(60)).max_bytes(1 << 20);
        let out = app.publisher::<String>(Route::queue("q").batch(batching));
        let (tell, mut told) = mpsc::unbounded_channel();
        let service = started(app.consume(Consume::queue("q"), move || Tells(tell.clone()))).await;
        for index in 0..2000_u16 {
            let context = TraceContext::new([1; 16], [(index % 255 + 1) as u8; 8], true).unwrap();
            drop(trace::within(context, || out.try_enqueue(index.to_string())).unwrap());
        }
        soon("confirmed", out.flush()).await;
        let mut with_a_trace = 0;
        for index in 0..2000_u16 {
            let (text, span, of_items) = soon("a message", told.recv()).await.unwrap();
            assert_eq!(text, index.to_string());
            assert!(of_items.unwrap().len() <= 32 * 1024);
            with_a_trace += usize::from(span.is_some());
            assert!(span.is_none_or(|span| u16::from(span) == index % 255 + 1), "{index}: {span:?}");
        }
        assert!((if frame_max.is_empty() { 500..600 } else { 60..80 }).contains(&with_a_trace), "{with_a_trace}");
        service.shutdown().await.unwrap();
    }
}

/// A tracer that panics in one of its calls.
#[derive(Clone)]
struct Falls(&'static str);

impl Falls {
    fn call(&self, call: &str) {
        assert_ne!(self.0, call, "scripted panic");
    }
}

impl Observer for Falls {
    fn publish_tracer(&self, _: &PublisherLabels<'_>) -> Option<Arc<dyn PublishTracer>> {
        self.call("publish_tracer");
        Some(Arc::new(self.clone()))
    }
}

impl PublishTracer for Falls {
    fn publish(&self, _: &PublishInfo<'_>) -> Option<Box<dyn PublishSpan>> {
        self.call("publish");
        Some(Box::new(self.clone()))
    }

    fn create(&self, _: &PublishInfo<'_>) -> Option<Box<dyn CreateSpan>> {
        self.call("create");
        Some(Box::new(self.clone()))
    }

    fn publish_batch(
        &self,
        _: &PublishInfo<'_>,
        _: &mut dyn Iterator<Item = &TraceContext>,
    ) -> Option<Box<dyn PublishSpan>> {
        self.call("publish_batch");
        Some(Box::new(self.clone()))
    }
}

impl PublishSpan for Falls {
    fn context(&self) -> Option<TraceContext> {
        self.call("context");
        Some(span(7))
    }

    fn settled(self: Box<Self>, _: PublishResult) {
        self.call("settled");
    }
}

impl CreateSpan for Falls {
    fn context(&self) -> Option<TraceContext> {
        self.call("context");
        Some(span(8))
    }

    fn joined(self: Box<Self>, _: &str) {
        self.call("joined");
    }
}

#[actix::test]
async fn a_tracer_that_panics_costs_its_span_and_no_message() {
    let vhost = vhost();
    let calls = ["never", "publish_tracer", "publish", "create", "publish_batch", "context", "settled", "joined"];
    for call in calls {
        let app = App::new(broker(vhost.url())).topology(topology()).observe(Arc::new(Falls(call)));
        let alone = app.publisher::<String>(Route::queue("out"));
        let batched = app.publisher::<String>(Route::queue("out").name("batched").batch(Batching::default()));
        let service = started(app).await;
        for out in [&alone, &batched] {
            soon("confirmed", out.publish("text".to_owned())).await.expect(call);
        }
        let raw = Raw::connect(vhost.url()).await;
        let (alone, batched) = (raw.take("out").await, raw.take("out").await);
        let expected = |of: &[&str]| (!of.contains(&call)).then(|| span(7).traceparent());
        assert_eq!(alone.header(TRACEPARENT), expected(&["publish_tracer", "publish", "context"]), "{call}");
        let of_the_item = (call == "publish_batch").then(|| span(8).traceparent());
        let of_the_batch = expected(&["publish_tracer", "publish_batch", "context"]).or(of_the_item);
        assert_eq!(batched.header(TRACEPARENT), of_the_batch, "{call}");
        service.shutdown().await.unwrap();
    }
}

handler!(Spawns { out: Publisher<String> }, Answer, |this, text| {
    let options = MessageOptions::new().caused_by(&text);
    actix::spawn(async move {
        assert_eq!(trace::current(), None, "a task of its own is not in the handler's trace");
        this.out.publish_with("text".to_owned(), options).await.unwrap();
    });
    Ok(())
});

#[actix::test]
async fn a_task_that_a_handler_spawns_says_itself_what_its_messages_are_caused_by() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(topology());
    let (to_q, out) = (app.publisher(Route::queue("q")), app.publisher::<String>(Route::queue("out")));
    let service = started(app.consume(Consume::queue("q"), move || Spawns { out: out.clone() })).await;
    to_q.publish_with("text".to_owned(), traced(1)).await.unwrap();
    assert_eq!(sent_on(&Raw::connect(vhost.url()).await, 1).await, [Some(span(1).traceparent())]);
    service.shutdown().await.unwrap();
}

/// Tells the spans of a whole batch: its own, and those of its messages and of one that it does not have.
struct Collects(mpsc::UnboundedSender<(Option<u8>, Vec<Option<u8>>)>);

impl Actor for Collects {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for Collects {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        let items = (0..=batch.len()).map(|index| number(batch.item_trace(index))).collect();
        let _ = self.0.send((number(batch.trace()), items));
        Ok(ItemFailures::none())
    }
}

#[actix::test]
async fn a_handler_of_whole_batches_can_ask_for_the_trace_of_each_message() {
    let vhost = vhost();
    let (app, alone) = app(vhost.url());
    let batching = Batching::default().linger(Duration::from_secs(60));
    let out = app.publisher::<String>(Route::queue("q").name("batches").batch(batching));
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = started(app.consume_batches(Consume::queue("q"), move || Collects(tell.clone()))).await;
    for (text, number) in [("a", 1), ("b", 2)] {
        drop(trace::within(span(number), || out.try_enqueue(text.to_owned())).unwrap());
    }
    soon("confirmed", out.flush()).await;
    assert_eq!(soon("a batch", told.recv()).await, Some((None, vec![Some(1), Some(2), None])));
    alone.publish_with("by itself".to_owned(), traced(3)).await.unwrap();
    assert_eq!(soon("a message", told.recv()).await, Some((Some(3), vec![Some(3), None])));
    service.shutdown().await.unwrap();
}
