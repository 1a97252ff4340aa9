//! Handlers of whole batches: the handler names the items that have failed.

use fluffle::{prelude::*, wire::headers};
use tokio::sync::mpsc;

use super::batch_items::{alone, consume, id};
use crate::support::*;

/// A handler of batches. The texts in a batch decide what it does.
struct AtOnce(mpsc::UnboundedSender<Vec<String>>);

impl Actor for AtOnce {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for AtOnce {
    type Result = ResponseFuture<Result<ItemFailures, Failure>>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        let texts: Vec<String> = batch.iter().map(|text| text.unwrap_or_else(|_| "?".to_owned())).collect();
        self.0.send(texts.clone()).unwrap();
        assert_eq!(batch.len(), texts.len());
        assert!(!texts.iter().any(|text| text == "panics"), "scripted panic");
        Box::pin(async move {
            if texts.iter().any(|text| text == "all fail") {
                return Err(Failure::reject("all of you"));
            }
            let mut failures = ItemFailures::none();
            for (index, text) in texts.iter().enumerate() {
                match text.as_str() {
                    "rejected" => failures.add(index, Failure::reject("never")),
                    "fails once" if batch.attempt() == 1 => failures.add(index, Failure::retry("not yet")),
                    "" => assert_eq!(batch.id(index), batch.message_id().map(|id| format!("{id}/{index}"))),
                    _ => {}
                }
            }
            Ok(failures)
        })
    }
}

#[actix::test]
async fn a_batch_at_once_fails_only_the_items_it_names() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(vhost.url()).consume_batches(consume(), move || AtOnce(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    let good = batch(&["a", "fails once", "rejected", ""]).body;
    let body = [&good[..], &[3, 0x0a, 9, b'x', 9, 1]].concat();
    raw.put("q", &body, labels(&batch(&[]), "e")).await;
    assert_eq!(soon("a batch", record.recv()).await.unwrap(), ["a", "fails once", "rejected", "", "?", "?"]);
    assert_eq!(soon("an item", record.recv()).await.unwrap(), ["fails once"], "the copy comes as a batch of one");
    let mut dead = Vec::new();
    for _ in 0..3 {
        let letter = raw.take("q.dead").await;
        dead.push((id(&letter), letter.header(headers::REASON).unwrap()));
    }
    dead.sort();
    let expected = [("e/2", "rejected"), ("e/4", "undecodable"), ("e/5", "undecodable")];
    assert_eq!(dead, expected.map(|(id, reason)| (id.to_owned(), reason.to_owned())));
    until("all are settled", || {
        let stats = stats(&service);
        (stats.handled, stats.retried, stats.dead_lettered) == (3, 1, 3)
    })
    .await;
    nothing_left(&vhost, service).await;
}

#[actix::test]
async fn a_poison_batch_is_taken_apart() {
    let vhost = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(vhost.url()).consume_batches(consume(), move || AtOnce(seen.clone()))).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "e", &["a", "panics", "b"]).await;
    assert_eq!(soon("the batch", record.recv()).await.unwrap(), ["a", "panics", "b"]);
    let mut by_itself = Vec::new();
    for _ in 0..4 {
        by_itself.push(soon("an item", record.recv()).await.unwrap().concat());
    }
    by_itself.sort();
    assert_eq!(by_itself, ["a", "b", "panics", "panics"]);
    let dead = raw.take("q.dead").await;
    assert_eq!((id(&dead).as_str(), dead.header(headers::ATTEMPT).unwrap().as_str()), ("e/1", "3"));
    until("all are settled", || stats(&service).handled == 2).await;
    // If the handler fails the whole batch, each message becomes a dead letter of its own.
    send_batch(&raw, "f", &["x", "all fail"]).await;
    let letters = [raw.take("q.dead").await, raw.take("q.dead").await];
    assert_eq!(letters.each_ref().map(id), ["f/0", "f/1"]);
    assert_eq!(letters.each_ref().map(alone), ["x", "all fail"]);
    nothing_left(&vhost, service).await;
}
