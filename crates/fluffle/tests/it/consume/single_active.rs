//! A queue with a single active consumer passes from one service to another.

use std::sync::Arc;

use fluffle::prelude::*;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

const MESSAGES: usize = 100;

fn app(url: &str) -> App {
    App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").single_active_consumer()))
}

#[actix::test]
async fn who_leaves_in_order_leaves_the_messages_to_the_next_active_consumer_in_their_order() {
    let place = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "0" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let consume = || Consume::queue("q").concurrency(1).prefetch(32);
    let first = app(place.url());
    let out = first.publisher::<String>(Route::queue("q"));
    let first = started(first.consume(consume(), factory)).await;
    publish_numbers(&out, MESSAGES).await;
    assert_eq!(next(&mut record).await.text, "0");
    until("the prefetch is full", || place.depth("q").unacked == 32).await;

    let (seen, mut numbers) = mpsc::unbounded_channel();
    let second = started(app(place.url()).consume(consume(), move || Numbers(seen.clone()))).await;
    until("the second stands by", || place.depth("q").consumers == 2).await;
    let leaving = actix::spawn(async move { first.shutdown().await });
    go.notify_one();
    soon("the end of the first", leaving).await.unwrap().unwrap();
    let mut last = 0;
    while let Ok(seen) = record.try_recv() {
        last = seen.text.parse().unwrap();
    }
    for expected in last + 1..MESSAGES {
        assert_eq!(soon("a delivery", numbers.recv()).await, Some(expected));
    }
    until("all is acked", || (place.depth("q").ready, place.depth("q").unacked) == (0, 0)).await;
    second.shutdown().await.unwrap();
}
