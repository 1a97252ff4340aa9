//! How a service ends: exit codes, one clear line for an error, signals. The service runs in a process of its own.

use std::{
    io::BufRead,
    net::TcpListener,
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use lapin::BasicProperties;

use crate::support::{
    process::{Log, Process, Program, SECONDS, service, this_test},
    *,
};

/// How long the services here may drain.
const DRAIN: Duration = Duration::from_secs(2);

/// The service of most tests here: a consumer of `q`, as a `main` function would run it.
async fn consumer(topology: Topology) -> Result<(), fluffle::Error> {
    let broker = Broker::from_env()?.reconnect(fast());
    App::new(broker)
        .topology(topology)
        .drain_within(DRAIN)
        .consume(Consume::queue("q"), || Patient)
        .run_until_signal()
        .await
}

fn q() -> Topology {
    Topology::new().queue(Queue::classic("q"))
}

/// Logs the message that it was given, and does what the message says.
struct Patient;

impl Actor for Patient {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Patient {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        eprintln!("handling {}", *text);
        match text.as_str() {
            "until told" => Box::pin(async {
                let line = actix_rt::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
                line.await.unwrap().unwrap()?;
                Ok(())
            }),
            "for ever" => Box::pin(std::future::pending()),
            "for ever, with its thread" => loop {
                std::thread::park();
            },
            _ => Box::pin(async { Ok(()) }),
        }
    }
}

/// Checks that the process ends with exit code 1 and a single line that contains all of `words`, but not the password.
fn one_line_that_says(process: Process, words: &[&str]) {
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 1, "{lines:#?}");
    let [line] = &lines[..] else { panic!("one line, not {lines:#?}") };
    assert!(line.starts_with("Error: "), "{line}");
    for word in words {
        assert!(line.contains(word), "`{word}` is missing: {line}");
    }
    assert!(!line.contains("hunter2"), "{line}");
}

/// Runs the user's part of a test. It needs an actix system here, because the service's part has one of its own.
fn played<T>(part: impl Future<Output = T>) -> T {
    actix::System::new().block_on(part)
}

async fn put(vhost: &Place, text: &str) {
    let body = fluffle::wire::Wire::<String>::protobuf().encode(&text.to_owned()).unwrap().body;
    let labels = BasicProperties::default()
        .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.StringValue".into());
    Raw::connect(vhost.url()).await.put("q", &body, labels).await;
}

/// Starts a consumer and waits until it has `text` in hand.
async fn with_in_hand(vhost: &Place, program: Program, text: &str) -> Process {
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["consuming"], SECONDS);
    put(vhost, text).await;
    process.line(&["handling", text], SECONDS);
    process
}

fn depth(vhost: &Place) -> (u64, u64) {
    let depth = vhost.depth("q");
    (depth.ready, depth.unacked)
}

#[test]
fn a_wrong_uri_is_one_line_and_exit_code_1() {
    let program = service(this_test!(), Log::Off, || consumer(q()));
    one_line_that_says(
        program.env("AMQP_URL", "http://me:hunter2@localhost").start(),
        &["scheme is `http`", "amqp://"],
    );
}

#[test]
fn refused_credentials_are_one_line_and_exit_code_1() {
    let program = service(this_test!(), Log::Off, || consumer(q()));
    let vhost = vhost();
    let url = vhost.url().replace("guest:guest", "guest:hunter2");
    one_line_that_says(program.env("AMQP_URL", &url).start(), &["127.0.0.1", "ACCESS_REFUSED", "guest", "password"]);
}

#[test]
fn a_missing_vhost_is_one_line_and_exit_code_1() {
    let program = service(this_test!(), Log::Off, || consumer(q()));
    let vhost = vhost();
    let url = vhost.url().replace(vhost.name(), "no-such-vhost");
    one_line_that_says(program.env("AMQP_URL", &url).start(), &["no-such-vhost", "not found", "add_vhost"]);
}

#[test]
fn a_topology_conflict_is_one_line_and_exit_code_1() {
    let name = this_test!();
    let program = service(name, Log::Off, || {
        consumer(Topology::new().queue(Queue::classic("q").message_ttl(Duration::from_secs(5))))
    });
    let vhost = vhost();
    played(async {
        let other = App::new(broker(vhost.url()))
            .topology(Topology::new().queue(Queue::classic("q").message_ttl(Duration::from_secs(60))));
        started(other).await.shutdown().await.unwrap();
    });
    one_line_that_says(
        program.env("AMQP_URL", vhost.url()).start(),
        &[r#"queue "q" exists with x-message-ttl = 60000"#, "this application declares x-message-ttl = 5000"],
    );
}

#[test]
fn a_queue_nobody_declared_is_one_line_and_exit_code_1() {
    let program = service(this_test!(), Log::Off, || consumer(Topology::new()));
    let vhost = vhost();
    one_line_that_says(program.env("AMQP_URL", vhost.url()).start(), &["`q`", "declare"]);
}

#[test]
fn a_broker_away_at_the_start_is_waited_for_and_said_so() {
    let program = service(this_test!(), Log::On, || consumer(q()));
    let vhost = vhost();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = vhost.url().replace(&vhost.port().to_string(), &port.to_string());
    let process = program.env("AMQP_URL", &url).start();
    let first = process.line(&["WARN", "cannot connect to", &port.to_string(), "refused"], SECONDS);
    assert!(first.contains("no connection to the broker") && first.contains("tries=1 next_try_in="), "{first}");
    // The next line comes when the broker has been away for two seconds. Consumers connect after publishers.
    process.line(&["WARN", "no connection to the broker", "connections=\"publish-0\"", "away=2."], SECONDS);
    assert_eq!(process.count("ERROR"), 0);
    forward(TcpListener::bind(("127.0.0.1", port)).unwrap(), vhost.port());
    process.line(&["WARN", "connected, topology declared", "connection=publish-0", "away="], SECONDS);
    process.line(&["consuming"], SECONDS);
    played(put(&vhost, "works"));
    process.line(&["handling works"], SECONDS);
    process.signal("TERM");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 0, "{lines:#?}");
}

#[test]
fn sigterm_while_the_broker_is_away_ends_at_once_with_exit_code_0() {
    let name = this_test!();
    let program = service(name, Log::On, || consumer(q()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    drop(listener);
    let process = program.env("AMQP_URL", &url).start();
    process.line(&["no connection to the broker"], SECONDS);
    process.signal("TERM");
    let (code, lines) = process.ended(DRAIN);
    assert_eq!(code, 0, "{lines:#?}");
}

async fn drains(signal: &str, program: Program) {
    let vhost = vhost();
    let mut process = with_in_hand(&vhost, program, "until told").await;
    process.signal(signal);
    process.line(&["finishing what is in flight"], SECONDS);
    put(&vhost, "too late").await;
    process.tell("go");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 0, "{lines:#?}");
    until("what was in flight is acked and what came later is left", || depth(&vhost) == (1, 0)).await;
    assert!(!lines.iter().any(|line| line.contains("handling too late")), "{lines:#?}");
}

#[test]
fn sigterm_lets_what_is_in_flight_finish_and_acks_it() {
    let program = service(this_test!(), Log::On, || consumer(q()));
    played(drains("TERM", program));
}

#[test]
fn ctrl_c_lets_what_is_in_flight_finish_and_acks_it() {
    let program = service(this_test!(), Log::On, || consumer(q()));
    played(drains("INT", program));
}

async fn gives_up_on(text: &str, program: Program) {
    let vhost = vhost();
    let process = with_in_hand(&vhost, program, text).await;
    assert_eq!(depth(&vhost), (0, 1));
    let begun = Instant::now();
    process.signal("TERM");
    let (code, lines) = process.ended(SECONDS);
    let took = begun.elapsed();
    assert!(took >= DRAIN / 2 && took < DRAIN + Duration::from_secs(1), "{took:?}: {lines:#?}");
    assert_eq!(code, 0, "{lines:#?}");
    until("the message is back in its queue", || depth(&vhost) == (1, 0)).await;
}

#[test]
fn a_hanging_handler_costs_no_more_than_the_drain_deadline_and_its_message_goes_back() {
    let name = this_test!();
    let program = service(name, Log::On, || consumer(q()));
    played(gives_up_on("for ever", program));
}

#[test]
fn a_handler_that_blocks_its_thread_for_ever_does_not_keep_the_process_alive() {
    let name = this_test!();
    let program = service(name, Log::On, || consumer(q()));
    played(gives_up_on("for ever, with its thread", program));
}

#[test]
fn a_second_ctrl_c_ends_at_once_with_exit_code_130() {
    let program = service(this_test!(), Log::On, || consumer(q()));
    let vhost = vhost();
    let process = played(with_in_hand(&vhost, program, "for ever"));
    process.signal("INT");
    process.line(&["finishing what is in flight"], SECONDS);
    let begun = Instant::now();
    process.signal("INT");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 130, "{lines:#?}");
    assert!(begun.elapsed() < DRAIN / 2, "{:?}", begun.elapsed());
    played(until("the message is back in its queue", || depth(&vhost) == (1, 0)));
}

/// A listener that accepts connections, sends nothing, and reports each connection.
fn half_open() -> (u16, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, connected) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            held.push(stream);
            let _ = tell.send(());
        }
    });
    (port, connected)
}

#[actix::test]
async fn an_endpoint_that_never_answers_is_left_for_the_next_one() {
    let vhost = vhost();
    let (port, connected) = half_open();
    let broker =
        broker(&format!("amqp://127.0.0.1:{port}/,{}", vhost.url())).connect_timeout(Duration::from_millis(500));
    let app = App::new(broker).topology(q());
    let out = app.publisher::<String>(Route::queue("q"));
    let begun = Instant::now();
    let service = started(app).await;
    assert!(begun.elapsed() >= Duration::from_millis(500), "the first address must be tried first");
    connected.try_recv().expect("the first address was tried");
    out.publish("works".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[test]
fn endpoints_that_never_answer_leave_no_threads_behind() {
    let name = this_test!();
    let program = service(name, Log::Off, || async {
        let broker = Broker::from_env()?.reconnect(fast()).connect_timeout(Duration::from_millis(200));
        App::new(broker).run_until_signal().await
    });
    let (port, connected) = half_open();
    let process = program.env("AMQP_URL", &format!("amqp://127.0.0.1:{port}/")).start();
    // There are two connections, and ten rounds for each.
    for _ in 0..20 {
        connected.recv_timeout(SECONDS).unwrap();
    }
    let threads: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", process.id()))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect();
    let loops = threads.iter().filter(|name| name.starts_with("lapin-io-loop")).count();
    assert!(!threads.is_empty() && loops <= 4, "{loops} I/O loops: {threads:?}");
    process.signal("TERM");
    assert_eq!(process.ended(SECONDS).0, 0);
}
