//! The field's traps: where systems like this one lose messages, and a test for each that fails without its care.
//! `docs/RELIABILITY.md`, "The field's traps", lists all of them; those that are not here have their test where it belongs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod acknowledging;
mod batches;
mod compression;
mod delay;
mod living;
mod publishing;
mod rabbitmq_4;
mod tap;

use fluffle::{amqp::ConsumerStats, prelude::*};
use lapin::BasicProperties;
use support::broker;

/// One quorum queue `q` with its dead letters, and a publisher to it.
fn app(url: &str) -> (App, Publisher<String>) {
    let app = App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    (app, out)
}

async fn publish(out: &Publisher<String>, texts: &[&str]) {
    for text in texts {
        out.publish((*text).to_owned()).await.expect("confirmed");
    }
}

fn stats(service: &Service) -> ConsumerStats {
    service.consumers()[0].1
}

/// A text as publishers here write it.
fn encoded(text: &str) -> (Vec<u8>, BasicProperties) {
    let body = fluffle::wire::Wire::<String>::protobuf().encode(&text.to_owned()).unwrap().body.to_vec();
    let labels = BasicProperties::default()
        .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.StringValue".into());
    (body, labels)
}
