//! A reader whose process dies, and a stream that is another one when it comes back.

use std::{collections::BTreeMap, io::Write, time::Duration};

use fluffle::prelude::*;

use super::*;
use crate::support::process::{Log, Program, SECONDS, service, this_test};

const HANDLED: &str = "handled ";

/// Says on stderr what it has handled.
struct Sayer;

impl Actor for Sayer {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Sayer {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            // Written with one call, because the process may die at any time.
            std::io::stderr().write_all(format!("{HANDLED}{}\n", *text).as_bytes()).unwrap();
            Ok(())
        })
    }
}

/// A process that reads `events`, with its offset in a file.
fn reader_process(test: &str) -> Program {
    let variable = |name: &str| std::env::var(name).unwrap();
    service(test, Log::On, || async move {
        let offsets = Offsets::open(variable("OFFSETS")).unwrap();
        let app = App::new(broker(&variable("AMQP_URL"))).topology(Topology::new().queue(Queue::stream("events")));
        let reader = StreamReader::new("r", offsets).keep_every(5).keep_within(Duration::from_millis(20));
        let consume = Consume::<String>::queue("events").stream(reader).prefetch(20);
        app.consume(consume, || Sayer).run_until_signal().await
    })
}

fn handled(lines: &[String]) -> impl Iterator<Item = usize> {
    lines.iter().filter_map(|line| line.strip_prefix(HANDLED)?.parse().ok())
}

/// Publishes each text as a chunk of its own.
fn publish_singly(url: &str, count: usize) {
    actix::System::new().block_on(async {
        let app = App::new(broker(url)).topology(Topology::new().queue(Queue::stream("events")));
        let out = app.publisher::<String>(Route::queue("events"));
        let service = started(app).await;
        for text in numbers(0..count) {
            out.publish(text).await.unwrap();
        }
        service.shutdown().await.unwrap();
    });
}

#[test]
fn a_reader_that_is_killed_handles_all_messages_in_its_next_lives_and_repeats_no_more_than_it_promises() {
    const MESSAGES: usize = 600;
    let program = || reader_process(this_test!());
    let first = program();
    let (vhost, folder) = (vhost(), tempfile::tempdir().unwrap());
    let offsets = folder.path().join("r.offsets");
    publish_singly(vhost.url(), MESSAGES);
    let mut times = BTreeMap::<usize, usize>::new();
    let mut next = Some(first);
    const LIVES: usize = 3;
    for life in 1..=LIVES {
        let process = next.take().unwrap_or_else(program);
        let process = process.env("AMQP_URL", vhost.url()).env("OFFSETS", offsets.to_str().unwrap()).start();
        if life == LIVES {
            process.line(&[&format!("{HANDLED}{}", MESSAGES - 1)], SECONDS);
            process.signal("TERM");
            let (code, lines) = process.ended(SECONDS);
            assert_eq!(code, 0, "{lines:#?}");
            handled(&lines).for_each(|number| *times.entry(number).or_default() += 1);
            continue;
        }
        process.line(&[&format!("{HANDLED}{}", life * MESSAGES / 4)], SECONDS);
        process.signal("KILL");
        let mut process = process;
        let (died, lines) = process.died_or_said("no line says this", SECONDS);
        assert!(died);
        handled(&lines).for_each(|number| *times.entry(number).or_default() += 1);
    }
    let missing: Vec<usize> = (0..MESSAGES).filter(|number| !times.contains_key(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let repeated = times.values().map(|times| times - 1).sum::<usize>();
    assert!(repeated <= (LIVES - 1) * (2 * 5 + 20), "{repeated}: two groups and the prefetch for each death");
}

#[test]
fn a_stream_that_was_deleted_and_declared_again_is_an_error_line_that_says_what_to_do() {
    let program = reader_process(this_test!());
    let (vhost, folder) = (vhost(), tempfile::tempdir().unwrap());
    let offsets = folder.path().join("r.offsets");
    publish_singly(vhost.url(), 3);
    actix::System::new().block_on(async {
        let store = Offsets::open(&offsets).unwrap();
        store.keep("events", "r", 1_000).await.unwrap();
        store.close().await.unwrap();
    });
    let process = program.env("AMQP_URL", vhost.url()).env("OFFSETS", offsets.to_str().unwrap()).start();
    let line = process.line(&["deleted and declared again", "offset=999"], SECONDS);
    assert!(line.contains("ERROR") && line.contains("forget its offset"), "{line}");
    process.signal("TERM");
    assert_eq!(process.ended(SECONDS).0, 0);
}
