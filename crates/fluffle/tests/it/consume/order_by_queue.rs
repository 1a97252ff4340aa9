//! Order by queue: what one handler instance, a `concurrency` of 1, and a prefetch of 1 promise.

use std::{sync::Arc, time::Duration};

use fluffle::prelude::*;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

const MANY: usize = 1_000;

#[actix::test]
async fn one_plain_instance_handles_in_the_order_of_publishing() {
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app.consume(Consume::queue("q"), move || Numbers(seen.clone()))).await;
    publish_numbers(&out, MANY).await;
    for expected in 0..MANY {
        assert_eq!(soon("a delivery", record.recv()).await, Some(expected));
    }
    service.shutdown().await.unwrap();
}

/// Records when it answers. The earlier its message came, the later it answers.
struct Later(mpsc::UnboundedSender<usize>);

impl Actor for Later {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Later {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let done = self.0.clone();
        Box::pin(async move {
            let n: usize = text.parse()?;
            actix::clock::sleep(Duration::from_millis(20 - 2 * (n as u64 % 10))).await;
            done.send(n)?;
            Ok(())
        })
    }
}

#[actix::test]
async fn concurrency_1_makes_futures_finish_one_after_the_other() {
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (done, mut record) = mpsc::unbounded_channel();
    let consume = Consume::queue("q").concurrency(1);
    let service = started(app.consume(consume, move || Later(done.clone()))).await;
    publish_numbers(&out, 100).await;
    for expected in 0..100 {
        assert_eq!(soon("a delivery", record.recv()).await, Some(expected));
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn two_instances_share_uneven_jobs_as_each_has_room() {
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "0" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").instances(2).concurrency(1), factory)).await;
    publish_numbers(&out, 50).await;
    let mut busy = None;
    for _ in 0..50 {
        let seen = next(&mut record).await;
        match seen.text.as_str() {
            "0" => busy = Some(seen.instance),
            // The instance with the long job is given none of the later ones.
            _ => assert!(busy.is_some() && busy != Some(seen.instance), "{seen:?}"),
        }
    }
    until("all but the long job are acked", || service.consumers()[0].1.handled == 49).await;
    go.notify_one();
    until("all are acked", || service.consumers()[0].1.handled == 50).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn with_prefetch_1_the_next_message_comes_when_the_last_is_settled() {
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app.consume(Consume::queue("q").prefetch(1), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    publish_numbers(&out, 20).await;
    for n in 0..20 {
        assert_eq!(next(&mut record).await.text, n.to_string());
        assert_eq!(service.consumers()[0].1.received, n + 1, "more than one message was delivered at a time");
        assert_eq!(u64::from(raw.ready("q").await), 19 - n, "the other messages wait at the broker");
        go.notify_one();
    }
    until("all are acked", || service.consumers()[0].1.handled == 20).await;
    service.shutdown().await.unwrap();
}
