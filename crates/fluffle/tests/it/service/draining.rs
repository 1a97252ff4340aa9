//! The log of a drain after SIGTERM. Each step is a line, in order, with what is left and how long it took. If a
//! deadline cuts a step off, the line is a warning, and the messages are still at the broker or in the journal.

use std::{env, time::Duration};

use fluffle::{
    broker::{Fault, Rule},
    prelude::*,
    testing::TestBroker,
};

use crate::support::{
    Act, handlers,
    process::{Log, Process, Program, SECONDS, service, this_test},
};

/// A service that drains for at most `DRAIN` seconds. It publishes three messages to `out` through a journal, and
/// consumes `q`. Its handler never answers a message `hangs`.
async fn consumer_and_journaled_publisher() -> Result<(), fluffle::Error> {
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("out"));
    let drain = Duration::from_secs(env::var("DRAIN").unwrap().parse().unwrap());
    let app = App::new(Broker::from_env()?).topology(topology).drain_within(drain);
    let journal = Journal::options().open(env::var("JOURNAL").unwrap()).unwrap();
    let out = app.publisher::<String>(Route::queue("out").journal(journal));
    actix::spawn(async move {
        for text in ["a", "b", "c"] {
            let _ = out.enqueue(text.to_owned()).await.unwrap().journaled().await.unwrap();
        }
        eprintln!("all journaled");
        std::future::pending::<()>().await;
    });
    let (factory, mut record) = handlers(|seen| if seen.text == "hangs" { Act::Hang } else { Act::Ok });
    actix::spawn(async move {
        while let Some(seen) = record.recv().await {
            eprintln!("handling {}", seen.text);
        }
    });
    app.consume(Consume::queue("q"), factory).run_until_signal().await
}

/// Starts the service and waits until it handles `text`.
fn at_work(program: Program, broker: &TestBroker, journal: &tempfile::TempDir, text: &'static str) -> Process {
    let path = journal.path().join("out.journal");
    let program = program.env("AMQP_URL", &broker.url()).env("JOURNAL", path.to_str().unwrap());
    let process = program.env("RUST_BACKTRACE", "0").start();
    process.line(&["consuming"], SECONDS);
    process.line(&["all journaled"], SECONDS);
    actix::System::new().block_on(async {
        let app = App::new(broker.client().unwrap());
        let out = app.publisher::<String>(Route::queue("q"));
        let service = crate::support::started(app).await;
        out.publish(text.to_owned()).await.unwrap();
        service.shutdown().await.unwrap();
    });
    process.line(&["handling", text], SECONDS);
    process
}

/// Ends the process with SIGTERM. Its log must have a line with all words of each of the `steps`, in this order, and a
/// line for the end of each part.
fn steps(process: Process, steps: &[&[&str]]) {
    process.signal("TERM");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 0, "{lines:#?}");
    in_order(&lines, steps);
    // A separate thread logs these lines. They are in order, but anywhere between the lines of the parts.
    let part = |name| ["INFO", "drain: stopped", name, "took="];
    let parts = ["step=\"consumers\"", "step=\"application\"", "step=\"publishers\"", "step=\"handlers\""].map(part);
    in_order(&lines, &parts.each_ref().map(|words| &words[..]));
}

fn in_order(lines: &[String], steps: &[&[&str]]) {
    let mut rest = lines.iter();
    for words in steps {
        let found = rest.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} is missing, or comes too early: {lines:#?}");
    }
}

#[test]
fn each_step_of_a_drain_that_gets_done_is_a_line() {
    let name = this_test!();
    let program = service(name, Log::On, consumer_and_journaled_publisher);
    let (broker, journal) = (TestBroker::start().unwrap(), tempfile::tempdir().unwrap());
    let late = Fault::DelayConfirm { time: Duration::from_secs(3) };
    broker.faults().inject(Rule::new(late).on_queue("out").times(3)).unwrap();
    let process = at_work(program.env("DRAIN", "60"), &broker, &journal, "easy");
    steps(
        process,
        &[
            &["INFO", "SIGTERM: finishing what is in flight", "within 60s"],
            &["INFO", "drain: takes no more messages", "queue=q", "in_hand=0", "limit=56s"],
            &["INFO", "drain: everything in hand is settled", "queue=q", "took="],
            &["INFO", "closed", "connection=consume-0", "took="],
            &["INFO", "drain: waits for its confirms", "publisher=out", "unconfirmed="],
            &["INFO", "drain: everything is confirmed", "publisher=out", "took="],
            &["INFO", "closed", "connection=publish-0"],
            &["INFO", "drain: the journal is flushed", "left=0", "took="],
            &["INFO", "stopped", "took="],
        ],
    );
    assert_eq!(broker.messages("out").unwrap().len(), 3);
}

#[test]
fn what_a_drains_deadline_cuts_off_is_a_warning_and_is_with_the_broker_or_in_the_journal_again() {
    let name = this_test!();
    let program = service(name, Log::On, consumer_and_journaled_publisher);
    let (broker, journal) = (TestBroker::start().unwrap(), tempfile::tempdir().unwrap());
    broker.faults().inject(Rule::new(Fault::DropConfirm).on_queue("out").after(1).times(2)).unwrap();
    let process = at_work(program.env("DRAIN", "1"), &broker, &journal, "hangs");
    steps(
        process,
        &[
            &["INFO", "SIGTERM: finishing what is in flight"],
            &["INFO", "drain: takes no more messages", "in_hand=1"],
            &["WARN", "drain: cut off with messages in hand", "queue=q", "left=1", "took=", "limit=750ms"],
            &["INFO", "drain: waits for its confirms", "publisher=out", "unconfirmed="],
            &["WARN", "drain: cut off with messages unconfirmed", "publisher=out", "left=2", "took="],
            &["INFO", "drain: the journal is flushed", "left=2"],
            &["INFO", "stopped", "took="],
        ],
    );
    assert_eq!(broker.messages("q").unwrap().len(), 1, "the message must be back in its queue");
    let left = fluffle::store::Journal::options().open(journal.path().join("out.journal")).unwrap();
    assert_eq!(left.stats().unconfirmed, 2, "unconfirmed messages must stay in the journal for the next process");
}

/// Both the consumer and the handlers' supervisor wait for the handler. They share the limit; a mistake would give each
/// of them the whole limit.
#[actix::test]
async fn with_a_handler_that_blocks_its_thread_a_shutdown_takes_its_limit_in_all_and_the_rest_gets_done() {
    const LIMIT: Duration = Duration::from_secs(3);
    let place = crate::support::vhost();
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("out"));
    let app = App::new(crate::support::broker(place.url())).topology(topology).drain_within(LIMIT);
    let (to_q, out) = (app.publisher::<String>(Route::queue("q")), app.publisher::<String>(Route::queue("out")));
    let (factory, mut record) = handlers(|_| Act::Block(4 * LIMIT));
    let service = crate::support::started(app.consume(Consume::queue("q"), factory)).await;
    to_q.publish("blocks".to_owned()).await.unwrap();
    crate::support::next(&mut record).await;
    let begun = std::time::Instant::now();
    let stopping = service.shutdown();
    // Accepted while the consumer stops. There must be time left for its confirm.
    let late = out.enqueue("late".to_owned()).await.unwrap();
    let (ended, confirmed) = tokio::join!(stopping, late.confirmed());
    let took = begun.elapsed();
    ended.unwrap();
    confirmed.unwrap();
    assert!(took >= LIMIT * 3 / 4, "the handler did not get its share of the limit: {took:?}");
    assert!(took < LIMIT + Duration::from_millis(500), "{took:?}");
    place.wait_depth("q", |depth| depth.ready == 1);
}
