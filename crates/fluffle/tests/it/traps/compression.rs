//! Traps of compressed bodies.

use fluffle::{prelude::*, wire::Gzip};

use crate::support::*;

/// If a copy lost its `content_encoding`, its body would be decoded without unpacking it.
#[actix::test]
async fn a_body_that_is_published_again_keeps_its_content_encoding_on_retries_and_as_a_dead_letter() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q").gzip(Gzip::on()));
    let (factory, mut record) = handlers(|_| Act::Err(Failure::retry("no")));
    let service = started(app.consume(Consume::queue("q").retry(retry(2)), factory)).await;
    let text = "the same again ".repeat(100);
    out.publish(text.clone()).await.unwrap();
    for attempt in 1..=2 {
        let seen = next(&mut record).await;
        assert_eq!((seen.attempt, &seen.text), (attempt, &text));
    }
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert_eq!(dead.properties.content_encoding().as_ref().unwrap().as_str(), "gzip");
    assert!(dead.body.len() < text.len() / 2, "the body must still be compressed");
    until("settled", || stats(&service).dead_lettered == 1).await;
    service.shutdown().await.unwrap();
}
