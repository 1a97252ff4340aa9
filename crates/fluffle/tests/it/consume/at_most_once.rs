//! At most once: no message is handed out twice, and a message that fails is dropped.

use fluffle::prelude::*;
use lapin::BasicProperties;

use super::settling::{empty, words};
use crate::support::*;

#[actix::test]
async fn at_most_once_never_hands_a_message_out_twice() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| if seen.text == "bad" { Act::Panic } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").guarantee(AtMostOnce), factory)).await;
    publish(&out, &["bad", "good"]).await;
    let mut texts = vec![next(&mut record).await.text, next(&mut record).await.text];
    texts.sort();
    assert_eq!(texts, words(&["bad", "good"]));
    until("the good one is counted", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err(), "a message was handed out twice");
    empty(vhost.url(), &["q", "q.dead"]).await;
}

#[actix::test]
async fn at_most_once_refuses_what_the_broker_delivers_again() {
    let vhost = vhost();
    // The message is delivered to another client first, which requeues it.
    let raw = Raw::connect(vhost.url()).await;
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let other =
        started(App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()))).await;
    raw.put("q", b"\x0a\x05again", BasicProperties::default()).await;
    let got = soon("it is there", async {
        loop {
            if let Some(got) = raw.channel().basic_get("q".into(), Default::default()).await.unwrap() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    });
    let back = lapin::options::BasicNackOptions { requeue: true, ..Default::default() };
    got.await.delivery.nack(back).await.unwrap();
    let service = started(app.consume(Consume::queue("q").guarantee(AtMostOnce), factory)).await;
    publish(&out, &["first time"]).await;
    assert_eq!(next(&mut record).await.text, "first time");
    until("the other was dropped", || stats(&service).dropped == 1).await;
    service.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert!(record.try_recv().is_err());
    empty(vhost.url(), &["q"]).await;
}

/// Reports what becomes of each delivery. Fails those with the text `bad`.
struct Follower(tokio::sync::mpsc::UnboundedSender<(String, fluffle::amqp::Settled)>);

impl Actor for Follower {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Follower {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (settled, told, name) = (text.settled(), self.0.clone(), (*text).clone());
        actix::spawn(async move { told.send((name, settled.await)).expect("the test listens") });
        if *text == "bad" { Err(Failure::retry("no")) } else { Ok(()) }
    }
}

#[actix::test]
async fn at_most_once_too_whoever_follows_a_delivery_learns_what_became_of_it() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let consume = Consume::queue("q").guarantee(AtMostOnce);
    let service = started(app.consume(consume, move || Follower(tell.clone()))).await;
    for (text, becomes) in [("good", fluffle::amqp::Settled::Acked), ("bad", fluffle::amqp::Settled::Dropped)] {
        publish(&out, &[text]).await;
        assert_eq!(soon("it is settled", told.recv()).await.unwrap(), (text.to_owned(), becomes));
    }
    service.shutdown().await.unwrap();
}
