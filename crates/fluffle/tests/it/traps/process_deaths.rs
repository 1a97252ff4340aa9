//! Traps of a process that dies with a message in hand.

use std::{
    collections::BTreeSet,
    io::Write,
    time::{Duration, Instant},
};

use fluffle::{prelude::*, wire::headers};
use lapin::options::BasicGetOptions;

use crate::support::{
    process::{Log, Program, SECONDS, service, this_test},
    *,
};

/// Logs each message that it is given. The text `poison` aborts the process, any other takes 30 ms.
struct Mortal;

impl Actor for Mortal {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Mortal {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        // Written with one call, because the process may die at any time.
        std::io::stderr().write_all(format!("{HANDLING}{}\n", *text).as_bytes()).unwrap();
        if *text == "poison" {
            std::process::abort();
        }
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok(())
        })
    }
}

const HANDLING: &str = "handling ";

/// Starts the process again after each death, until the poison is a dead letter and `others` other messages were
/// handled. Returns those in the order in which each was handled for the first time.
fn lives(first: Program, again: impl Fn() -> Program, url: &str, others: usize) -> Vec<String> {
    let mut handled: Vec<String> = Vec::new();
    let mut note = |lines: &[String]| {
        for text in lines.iter().filter_map(|line| line.strip_prefix(HANDLING)).filter(|text| *text != "poison") {
            if !handled.iter().any(|earlier| earlier == text) {
                handled.push(text.to_owned());
            }
        }
        handled.len()
    };
    let mut deaths = 0;
    let mut next = Some(first);
    loop {
        let mut process = next.take().unwrap_or_else(&again).env("AMQP_URL", url).start();
        let (died, mut lines) = process.died_or_said("dead letter", SECONDS);
        if !died {
            let deadline = Instant::now() + SECONDS;
            while note(&lines) < others {
                assert!(Instant::now() < deadline, "not all are handled: {lines:#?}");
                std::thread::sleep(Duration::from_millis(10));
                lines = process.lines();
            }
            process.signal("TERM");
            let (code, lines) = process.ended(SECONDS);
            assert_eq!(code, 0, "{lines:#?}");
            assert!(deaths >= 3, "the poison was dead-lettered too early, after {deaths} deaths");
            return handled;
        }
        note(&lines);
        deaths += 1;
        assert!(deaths <= 6, "the limit is six deliveries: {lines:#?}");
    }
}

/// Declares these queues and publishes to each its texts.
fn fill(url: &str, queues: &[&str], texts: impl Fn(usize) -> Vec<String>) {
    actix::System::new().block_on(async {
        // A single active consumer, because the next process may consume before the broker notices that the last one is
        // dead.
        let queue = |name: &&str| Queue::quorum(*name).dead_letter().single_active_consumer();
        let topology = queues.iter().map(queue).fold(Topology::new(), Topology::queue);
        let app = App::new(broker(url)).topology(topology);
        let outs: Vec<_> = queues.iter().map(|queue| app.publisher::<String>(Route::queue(*queue))).collect();
        let filling = started(app).await;
        for (number, out) in outs.iter().enumerate() {
            for text in texts(number) {
                out.publish(text).await.unwrap();
            }
        }
        filling.shutdown().await.unwrap();
    });
}

/// Checks that the dead-letter queue has exactly one message, because of the delivery limit.
fn is_dead(url: &str, queue: &str) {
    actix::System::new().block_on(async {
        let raw = Raw::connect(url).await;
        let letters = format!("{queue}.dead");
        let dead = raw.take(&letters).await;
        assert_eq!(dead.header(headers::REASON).unwrap(), "delivery-limit");
        assert_eq!(raw.ready(&letters).await, 0);
    });
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn a_message_that_kills_its_process_each_time_is_a_dead_letter_and_those_beside_it_are_handled() {
    let name = this_test!();
    let program = || {
        service(name, Log::On, || async {
            let app = App::new(broker(&std::env::var("AMQP_URL").unwrap()));
            let consume = Consume::<String>::queue("q").retry(retry(3));
            app.consume(consume, || Mortal).run_until_signal().await
        })
    };
    // In the process of the service, this call never returns.
    let first = program();
    let vhost = vhost();
    fill(vhost.url(), &["q"], |_| [vec!["poison".to_owned()], numbers(40)].concat());
    let handled: BTreeSet<String> = lives(first, program, vhost.url(), 40).into_iter().collect();
    assert_eq!(handled, numbers(40).into_iter().collect());
    is_dead(vhost.url(), "q");
}

/// The queue of the other consumer has more messages than its prefetch, and its first message is in hand whenever the
/// process dies.
#[test]
fn what_kills_the_process_of_one_consumer_costs_another_neither_a_message_nor_their_order() {
    const BESIDE: usize = 20;
    let name = this_test!();
    let program = || {
        service(name, Log::On, || async {
            let app = App::new(broker(&std::env::var("AMQP_URL").unwrap()));
            let consume = |queue: &str| Consume::<String>::queue(queue).retry(retry(3)).concurrency(1);
            let app = app.consume(consume("beside").prefetch(8), || Mortal);
            app.consume(consume("q"), || Mortal).run_until_signal().await
        })
    };
    let first = program();
    let vhost = vhost();
    let texts = |queue| if queue == 0 { vec!["poison".to_owned()] } else { numbers(BESIDE) };
    fill(vhost.url(), &["q", "beside"], texts);
    assert_eq!(lives(first, program, vhost.url(), BESIDE), numbers(BESIDE));
    is_dead(vhost.url(), "q");
    actix::System::new().block_on(async {
        assert_eq!(Raw::connect(vhost.url()).await.ready("beside.dead").await, 0);
    });
}

/// The suspect is between other messages. At least one of them waits for a handler when the suspect arrives.
#[actix::test]
async fn what_goes_back_to_come_again_alone_comes_in_its_order() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let filling = started(app).await;
    publish(&out, &["first", "waits", "suspect", "behind"]).await;
    filling.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    let ready = |count| {
        let raw = &raw;
        soon("they are back", async move {
            while raw.ready("q").await != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let (first, mut suspect) = (raw.fresh_channel().await, raw.fresh_channel().await);
    for left in [3, 2] {
        first.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        ready(left).await;
    }
    for _ in 0..3 {
        suspect.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        suspect.close(200, "in vain".into()).await.unwrap();
        ready(2).await;
        suspect = raw.fresh_channel().await;
    }
    // In a quorum queue, the message that was returned first comes first.
    suspect.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    first.close(200, "in vain".into()).await.unwrap();
    ready(3).await;
    suspect.close(200, "in vain".into()).await.unwrap();
    ready(4).await;

    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url()));
    // The rate limit makes the second message wait for a handler when the suspect arrives.
    let consume = Consume::queue("q").retry(retry(3)).concurrency(1).rate_limit(RateLimit::per_second(4, 1));
    let service = started(app.consume(consume, factory)).await;
    for text in ["first", "waits", "suspect", "behind"] {
        assert_eq!(next(&mut record).await.text, text);
    }
    until("all are handled", || stats(&service).handled == 4).await;
    assert_eq!(stats(&service).work_done_ack_lost, 0, "messages in hand must be acked before the channel is closed");
    service.shutdown().await.unwrap();
}
