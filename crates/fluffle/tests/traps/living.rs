//! Traps of staying alive.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{
    broker::{Event, Fault, Rule, Target},
    prelude::*,
    testing::TestBroker,
    wire::headers,
};
use lapin::options::BasicGetOptions;
use tokio::sync::Notify;

use crate::{
    app, encoded,
    process::{Log, Program, service},
    publish, stats,
    support::*,
};

/// A cold start on a busy machine included.
const SECONDS: Duration = Duration::from_secs(15);

/// A consumer that the broker's timeout ends gets `basic.cancel` from RabbitMQ 4.3 on, as one does whose queue is deleted. Its
/// channel stays open.
#[actix::test]
async fn a_basic_cancel_is_no_clean_end_what_was_in_hand_comes_again_to_a_consumer_that_consumes_again() {
    let embedded = TestBroker::start().unwrap();
    let (app, out) = app(&embedded.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(
            move |seen| {
                if seen.text == "slow" && !seen.redelivered { Act::Wait(Arc::clone(&gate)) } else { Act::Ok }
            },
        );
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["slow"]).await;
    assert!(!next(&mut record).await.redelivered);
    embedded.faults().strike(Fault::CancelConsumer, Target::queue("q")).unwrap();
    let again = next(&mut record).await;
    assert!(again.redelivered && again.attempt == 1, "{again:?}");
    go.notify_one();
    until("the late work is noted", || stats(&service).work_done_ack_lost == 1).await;
    publish(&out, &["next"]).await;
    assert_eq!(next(&mut record).await.text, "next");
    until("both are handled", || stats(&service).handled == 2).await;
    assert!(service.connections().iter().all(|one| one.connects == 1), "a cancel is its consumer's affair");
    service.shutdown().await.unwrap();
}

#[test]
fn a_handler_half_way_to_consumer_timeout_is_warned_about_before_the_broker_acts() {
    let name = "living::a_handler_half_way_to_consumer_timeout_is_warned_about_before_the_broker_acts";
    let program = service(name, Log::On, || async {
        let (app, _out) = app(&std::env::var("AMQP_URL").unwrap());
        let (factory, _record) = handlers(|_| Act::Hang);
        let consume = Consume::<String>::queue("q").consumer_timeout(Duration::from_secs(2));
        app.consume(consume, factory).run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["consuming"], SECONDS);
    actix::System::new().block_on(async {
        let (body, labels) = encoded("slow");
        Raw::connect(vhost.url()).await.put("q", &body, labels.with_message_id("slow-1".into())).await;
    });
    let warning = process.line(&["WARN", "half way to the broker's consumer_timeout"], SECONDS);
    for word in ["slow-1", "queue=q", "consumer_timeout=Some(2s)"] {
        assert!(warning.contains(word), "{warning}");
    }
}

/// Says what it was given, and dies of the poison; the others take their time.
struct Mortal;

impl Actor for Mortal {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Mortal {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        // In one piece, for the process may die amid it.
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

/// Lives again after each death, until nothing kills it any more and so many others have been handled; gives those in the
/// order in which each was handled for the first time.
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
            assert!(deaths >= 3, "an attempt is a death at least: {deaths}");
            return handled;
        }
        note(&lines);
        deaths += 1;
        assert!(deaths <= 6, "the limit is six deliveries: {lines:#?}");
    }
}

/// Declares these queues, and puts into each what is to be in it.
fn fill(url: &str, queues: &[&str], texts: impl Fn(usize) -> Vec<String>) {
    actix::System::new().block_on(async {
        // Without a single active consumer a second one may be there before the broker knows that the first is dead.
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

/// It alone is dead.
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
    let name = "living::a_message_that_kills_its_process_each_time_is_a_dead_letter_and_those_beside_it_are_handled";
    let program = || {
        service(name, Log::On, || async {
            let app = App::new(broker(&std::env::var("AMQP_URL").unwrap()));
            let consume = Consume::<String>::queue("q").retry(retry(3));
            app.consume(consume, || Mortal).run_until_signal().await
        })
    };
    // In the other process this goes no further.
    let first = program();
    let vhost = vhost();
    fill(vhost.url(), &["q"], |_| [vec!["poison".to_owned()], numbers(40)].concat());
    let handled: BTreeSet<String> = lives(first, program, vhost.url(), 40).into_iter().collect();
    assert_eq!(handled, numbers(40).into_iter().collect());
    is_dead(vhost.url(), "q");
}

/// The one beside it has more than its prefetch, and its first message in hand whenever the process dies.
#[test]
fn what_kills_the_process_of_one_consumer_costs_another_neither_a_message_nor_their_order() {
    const BESIDE: usize = 20;
    let name = "living::what_kills_the_process_of_one_consumer_costs_another_neither_a_message_nor_their_order";
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

/// It stands between others, of which one at least waits for a handler when it comes.
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
    // A quorum queue has first what came back first.
    suspect.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    first.close(200, "in vain".into()).await.unwrap();
    ready(3).await;
    suspect.close(200, "in vain".into()).await.unwrap();
    ready(4).await;

    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url()));
    // The second one waits when the suspect arrives.
    let consume = Consume::queue("q").retry(retry(3)).concurrency(1).rate_limit(RateLimit::per_second(4, 1));
    let service = started(app.consume(consume, factory)).await;
    for text in ["first", "waits", "suspect", "behind"] {
        assert_eq!(next(&mut record).await.text, text);
    }
    until("all are handled", || stats(&service).handled == 4).await;
    assert_eq!(stats(&service).work_done_ack_lost, 0, "what was in hand was acked first");
    service.shutdown().await.unwrap();
}

/// The connection is cut again each time it has just been opened, amid the declarations.
#[actix::test]
async fn a_recovery_interrupted_by_a_second_failure_starts_over() {
    let embedded = TestBroker::start().unwrap();
    let (app, out) = app(&embedded.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    let again = embedded.faults().inject(Rule::new(Fault::Cut).at(Event::Opened).times(6)).unwrap();
    embedded.faults().strike(Fault::Cut, Target::all()).unwrap();
    again.wait_fired(6, SOON).unwrap();
    soon("published", out.publish("after all that".to_owned())).await.unwrap();
    assert_eq!(next(&mut record).await.text, "after all that");
    service.shutdown().await.unwrap();
}

/// lapin's `close` waits for an answer that a broker half gone never gives.
#[actix::test]
async fn a_close_that_is_never_answered_ends_the_service_all_the_same() {
    let embedded = TestBroker::start().unwrap();
    let client = embedded.client().unwrap().close_timeout(Duration::from_millis(300));
    let app = App::new(client).drain_within(Duration::from_millis(300));
    let app = app.topology(Topology::new().queue(Queue::quorum("q")));
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::<String>::queue("q"), factory)).await;
    embedded.faults().strike(Fault::HalfOpen, Target::all()).unwrap();
    let begun = Instant::now();
    soon("the end", service.shutdown()).await.unwrap();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
}
