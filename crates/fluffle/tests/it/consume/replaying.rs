//! Replay: dead letters go back to the queues they came from. All of them or a selection is replayed, and none is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fluffle::{amqp::Replay, prelude::*};

use crate::support::*;

/// A service whose handlers reject every message until the test changes that, and the record of what they were given.
struct Bench {
    vhost: Place,
    service: Service,
    out: Publisher<String>,
    record: Record,
    healthy: Arc<AtomicBool>,
}

impl Bench {
    async fn start() -> Self {
        let vhost = vhost();
        let topology = Topology::new()
            .exchange(Exchange::fanout("all"))
            .queue(Queue::quorum("q").bind("all", "").dead_letter())
            .queue(Queue::quorum("other").bind("all", ""));
        let app = App::new(broker(vhost.url())).topology(topology);
        let out = app.publisher(Route::exchange("all"));
        let healthy = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&healthy);
        let (factory, record) = handlers(move |seen| {
            if well.load(Ordering::SeqCst) { Act::Ok } else { Act::Err(Failure::reject(format!("not {}", seen.text))) }
        });
        let service = started(app.consume(Consume::queue("q"), factory)).await;
        Self { vhost, service, out, record, healthy }
    }

    /// Publishes these texts and makes them dead letters, in this order.
    async fn bury(&mut self, texts: &[&str]) {
        for text in texts {
            self.out.publish((*text).to_owned()).await.unwrap();
            assert_eq!(next(&mut self.record).await.text, *text);
        }
        self.dead_are(texts.len() as u32).await;
        self.healthy.store(true, Ordering::SeqCst);
    }

    fn broker(&self) -> Broker {
        broker(self.vhost.url())
    }

    /// Waits until the dead-letter queue has this many messages. The broker takes its time to process acks and
    /// requeues.
    async fn dead_are(&self, count: u32) {
        let raw = Raw::connect(self.vhost.url()).await;
        soon("the dead letters", async {
            while raw.ready("q.dead").await != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[actix::test]
async fn replayed_letters_are_handled_as_first_attempts_and_reach_no_other_queue() {
    let mut bench = Bench::start().await;
    bench.bury(&["a", "b", "c"]).await;
    let replayed = soon("replayed", Replay::from("q.dead").run(&bench.broker())).await.unwrap();
    assert_eq!((replayed.looked_at, replayed.replayed, replayed.refused), (3, 3, 0), "{replayed}");
    for text in ["a", "b", "c"] {
        let seen = next(&mut bench.record).await;
        assert_eq!((seen.text.as_str(), seen.attempt), (text, 1));
    }
    bench.dead_are(0).await;
    assert_eq!(Raw::connect(bench.vhost.url()).await.ready("other").await, 3, "the originals, and no copies");
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_the_filter_does_not_want_stays() {
    let mut bench = Bench::start().await;
    bench.bury(&["a", "b", "c"]).await;
    let replay = Replay::from("q.dead").filter(|letter| letter.info().is_some_and(|info| info.error == "not b"));
    let replayed = soon("replayed", replay.run(&bench.broker())).await.unwrap();
    assert_eq!((replayed.replayed, replayed.filtered), (1, 2), "{replayed}");
    assert_eq!(next(&mut bench.record).await.text, "b");
    bench.dead_are(2).await;
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_dry_run_counts_and_moves_nothing() {
    let mut bench = Bench::start().await;
    bench.bury(&["a", "b"]).await;
    let replayed = soon("replayed", Replay::from("q.dead").dry_run().run(&bench.broker())).await.unwrap();
    assert_eq!((replayed.replayed, replayed.dry_run), (2, true));
    assert_eq!(
        replayed.to_string(),
        "2 looked at: 2 would be replayed, 0 not wanted, 0 without an origin, 0 unreadable, 0 refused"
    );
    bench.dead_are(2).await;
    assert!(bench.record.try_recv().is_err());
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_letter_that_dies_again_is_not_replayed_in_circles() {
    let mut bench = Bench::start().await;
    bench.bury(&["a", "b"]).await;
    bench.healthy.store(false, Ordering::SeqCst);
    let replayed = soon("replayed", Replay::from("q.dead").rate(5).run(&bench.broker())).await.unwrap();
    assert_eq!((replayed.looked_at, replayed.replayed), (2, 2), "{replayed}");
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_letter_whose_queue_is_gone_stays_where_it_is() {
    let mut bench = Bench::start().await;
    bench.bury(&["a"]).await;
    bench.service.shutdown().await.unwrap();
    let raw = Raw::connect(bench.vhost.url()).await;
    raw.delete("q").await;
    let replayed = soon("replayed", Replay::from("q.dead").run(&bench.broker())).await.unwrap();
    assert_eq!((replayed.replayed, replayed.refused), (0, 1), "{replayed}");
    bench.dead_are(1).await;
    let replayed = soon("replayed", Replay::from("q.dead").to_queue("other").run(&bench.broker())).await.unwrap();
    assert_eq!(replayed.replayed, 1);
    bench.dead_are(0).await;
    assert_eq!(raw.ready("other").await, 2);
}

#[actix::test]
async fn a_queue_that_is_not_there_is_an_error_that_says_so() {
    let vhost = vhost();
    let error = soon("an answer", Replay::from("nowhere.dead").run(&broker(vhost.url()))).await.unwrap_err();
    let line = error.to_string();
    assert!(line.contains("nowhere.dead") && line.contains("404"), "{line}");
}

/// A rate bounds the time from below: between three letters there are two pauses.
#[actix::test]
async fn at_a_rate_no_letter_is_sent_before_its_time() {
    let mut bench = Bench::start().await;
    bench.bury(&["a", "b", "c"]).await;
    let begun = std::time::Instant::now();
    let replayed = soon("replayed", Replay::from("q.dead").rate(4).run(&bench.broker())).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(replayed.replayed, 3);
    bench.dead_are(0).await;
    bench.service.shutdown().await.unwrap();
}
