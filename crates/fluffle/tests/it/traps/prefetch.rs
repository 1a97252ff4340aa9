//! Traps of prefetch and budgets: a limit must not block for ever, and buffers must be bounded.

use std::sync::Arc;

use fluffle::prelude::*;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

/// Reports how many messages each call hands over.
struct Counting(mpsc::UnboundedSender<usize>);

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counting {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send(1).unwrap();
        Box::pin(async { Ok(()) })
    }
}

impl Handler<DeliveryBatch<String>> for Counting {
    type Result = ResponseFuture<Result<ItemFailures, Failure>>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send(batch.len()).unwrap();
        Box::pin(async { Ok(ItemFailures::none()) })
    }
}

/// A batch is one delivery, and nothing waits for more deliveries. If a limit is smaller than a batch, the batch is
/// handled alone.
#[actix::test]
async fn a_batch_waits_for_no_more_than_the_smallest_prefetch_window_and_budget_let_through() {
    for at_once in [false, true] {
        let vhost = vhost();
        let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
        let route = Route::queue("q").batch(Batching::default().max_items(100)).gzip(Gzip::on());
        let out = app.publisher::<String>(route.confirms(Confirms::Each).mailbox(1).max_bytes_in_flight(1));
        let consume = Consume::<String>::queue("q").prefetch(1).concurrency(1).max_bytes_in_flight(1);
        let (seen, mut record) = mpsc::unbounded_channel();
        let app = match at_once {
            false => app.consume(consume, move || Counting(seen.clone())),
            true => app.consume_batches(consume, move || Counting(seen.clone())),
        };
        let service = started(app).await;
        let mut receipts = Vec::new();
        for number in 0..1000 {
            receipts.push(soon("room", out.enqueue(number.to_string())).await.unwrap());
        }
        soon("all sent", out.flush()).await;
        for receipt in receipts {
            receipt.confirmed().await.unwrap();
        }
        let mut handled = 0;
        while handled < 1000 {
            handled += soon("the next batch", record.recv()).await.unwrap();
        }
        until("all are acked", || stats(&service).handled == 1000).await;
        assert!(stats(&service).received < 1000, "they came in batches");
        service.shutdown().await.unwrap();
    }
}

/// lapin's own buffer is not bounded, so only the prefetch bounds it.
#[actix::test]
async fn no_more_than_the_prefetch_is_in_the_process_for_the_clients_buffer_has_no_bound() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "first" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").prefetch(5).concurrency(1), factory)).await;
    publish(&out, &["first"]).await;
    next(&mut record).await;
    let texts: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    publish(&out, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    until("the broker keeps the rest", || (vhost.depth("q").ready, vhost.depth("q").unacked) == (46, 5)).await;
    assert!(stats(&service).received <= 5);
    go.notify_one();
    until("all are handled", || stats(&service).handled == 51).await;
    service.shutdown().await.unwrap();
}
