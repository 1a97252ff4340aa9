//! The text of a handler's panic is in the log line and in the dead letter, with the message's id.

use std::time::Duration;

use fluffle::prelude::*;
use fluffle_wire::headers;

use crate::support::{
    process::{Log, service, this_test},
    *,
};

const SECONDS: Duration = Duration::from_secs(30);

fn app(url: &str) -> (App, Publisher<String>) {
    let app = App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    (app, out)
}

fn q() -> Consume<String> {
    Consume::queue("q").retry(Retry::none()).handler_backoff(fast())
}

/// Panics at the place and with the words that the message names.
struct Panics;

impl Actor for Panics {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Panics {
    type Result = ResponseActFuture<Self, Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        assert!(*text != "in the call", "no such order: {}", text.len());
        Box::pin(async move { text }.into_actor(self).map(|text, _, _| match text.as_str() {
            "in its context" => panic!("{}", "no such customer ".repeat(1_000)),
            _ => Ok(()),
        }))
    }
}

struct PanicsApart;

impl Actor for PanicsApart {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for PanicsApart {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::task::yield_now().await;
            panic!("no such address: {}", *text)
        })
    }
}

struct PanicsOfBatches;

impl Actor for PanicsOfBatches {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for PanicsOfBatches {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        panic!("{} is too many", batch.len())
    }
}

/// The error of the only dead letter.
async fn error_of(url: &str) -> String {
    let letter = Raw::connect(url).await.take("q.dead").await;
    letter.header(headers::ERROR).unwrap()
}

#[actix::test]
async fn a_panic_in_handle_is_told_by_the_dead_letter() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let service = started(app.consume(q(), || Panics)).await;
    out.publish("in the call".to_owned()).await.unwrap();
    assert_eq!(error_of(vhost.url()).await, "the handler panicked: no such order: 11");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_panic_in_the_actors_context_is_told_by_the_dead_letter_and_no_longer_than_2_kib() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let service = started(app.consume(q(), || Panics)).await;
    out.publish("in its context".to_owned()).await.unwrap();
    let error = error_of(vhost.url()).await;
    assert!(error.starts_with("the handler panicked: no such customer no such"), "{error}");
    assert!(error.len() <= 2048, "{}", error.len());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_panic_of_a_future_apart_from_its_actor_is_told_by_the_dead_letter() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let service = started(app.consume(q(), || PanicsApart)).await;
    out.publish("street 1".to_owned()).await.unwrap();
    assert_eq!(error_of(vhost.url()).await, "the handler panicked: no such address: street 1");
    assert_eq!(service.snapshot().find("app/handlers/q/0").unwrap().restarts, 0, "the actor goes on");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_panic_over_an_item_of_a_batch_or_a_key_is_told_by_its_own_dead_letter() {
    for by_key in [false, true] {
        let vhost = vhost();
        let (app, _) = app(vhost.url());
        let batched = app.publisher::<String>(Route::queue("q").batch(Batching::default()));
        let consume = if by_key { q().ordered_by(|text: &String| text.clone()) } else { q() };
        let service = started(app.consume(consume, || Panics)).await;
        let texts = ["fine", "in the call", "fine too"].map(str::to_owned);
        for receipt in futures_util::future::join_all(texts.map(|text| batched.enqueue(text))).await {
            drop(receipt.unwrap());
        }
        assert_eq!(error_of(vhost.url()).await, "the handler panicked: no such order: 11");
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn a_panic_of_a_handler_of_batches_is_told_by_the_dead_letter() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let service = started(app.consume_batches(q(), || PanicsOfBatches)).await;
    out.publish("one".to_owned()).await.unwrap();
    assert_eq!(error_of(vhost.url()).await, "the handler panicked: 1 is too many");
    service.shutdown().await.unwrap();
}

#[test]
fn the_log_line_of_a_panic_has_its_words_and_the_messages_id() {
    let program = service(this_test!(), Log::On, || async {
        let (app, out) = app(&std::env::var("AMQP_URL").unwrap());
        let service = app.consume(q(), || Panics).start().await?;
        out.publish_with("in the call".to_owned(), MessageOptions::new().id("order-7")).await?;
        service.run_until_signal().await?;
        Ok::<(), fluffle::Error>(())
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["dead letter", "message_id", "order-7", "the handler panicked: no such order: 11"], SECONDS);
}
