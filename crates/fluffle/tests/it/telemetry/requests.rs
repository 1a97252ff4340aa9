//! Requests and their answers are counted by outcome.

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, telemetry::Telemetry};
use lapin::BasicProperties;
use tokio::sync::Notify;

use super::{has, value};
use crate::support::*;

#[derive(Clone)]
struct Responder {
    go: Arc<Notify>,
}

impl Actor for Responder {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Responder {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, question: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let go = Arc::clone(&self.go);
        Box::pin(async move {
            match question.as_str() {
                "no" => Err(Failure::reject("never")),
                "slow" => {
                    go.notified().await;
                    Ok("too late".to_owned())
                }
                _ => Ok("yes".to_owned()),
            }
        })
    }
}

#[actix::test]
async fn each_has_its_outcome_and_a_late_answer_is_counted() {
    let (vhost, telemetry, go) = (vhost(), Telemetry::new(), Arc::new(Notify::new()));
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q"))).telemetry(&telemetry);
    let ask = app.requester::<String, String>(Route::queue("q").deadline(Duration::from_millis(500)));
    let responder = Responder { go: Arc::clone(&go) };
    let service = started(app.consume(Consume::queue("q"), move || responder.clone())).await;
    soon("answered", ask.request("well?".to_owned())).await.unwrap();
    soon("refused", ask.request("no".to_owned())).await.unwrap_err();
    soon("timed out", ask.request("slow".to_owned())).await.unwrap_err();
    go.notify_one();
    has(&telemetry, "fluffle_request_answers_late_total", &["q"], |late| late == 1.0).await;
    for (name, labels, expected) in [
        ("fluffle_request_sent_total", &["q"][..], 3.0),
        ("fluffle_request_settled_total", &["q", "answered"], 1.0),
        ("fluffle_request_settled_total", &["q", "refused"], 1.0),
        ("fluffle_request_settled_total", &["q", "timed_out"], 1.0),
        ("fluffle_request_duration_seconds", &["q"], 2.0),
    ] {
        assert_eq!(value(&telemetry, name, labels), expected, "{name} {labels:?}");
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_answer_that_the_broker_returns_is_counted() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q"))).telemetry(&telemetry);
    let responder = Responder { go: Arc::default() };
    let service = started(app.consume(Consume::queue("q"), move || responder.clone())).await;
    let raw = Raw::connect(vhost.url()).await;
    let (body, labels): (_, BasicProperties) = encoded("well?");
    raw.put("q", &body, labels.with_reply_to("nobody".into()).with_correlation_id("1".into())).await;
    has(&telemetry, "fluffle_consume_replies_unroutable_total", &["q"], |lost| lost == 1.0).await;
    service.shutdown().await.unwrap();
}
