//! What an operator reads in the log of a service, at `info` and above: of a start, of a poison message, and of a lost
//! connection. The service runs in a process of its own, so that its log is its own. The binary `broker` has the log of
//! a broker that is killed.

use std::time::Duration;

use fluffle::{prelude::*, wire::headers::TraceContext};

use crate::support::{
    log_lines::{field, log, number, with},
    process::{Log, Process, Program, SECONDS, service, this_test},
    *,
};

const QUEUES: [&str; 4] = ["mails", "bills", "parcels", "audit"];

/// The body of each message, which must be in no line.
const SECRET: &str = "card 4111";

/// The trace of each message.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Each message has three attempts, a moment apart.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Copy)]
enum Poison {
    /// The handler fails.
    Fails,
    /// The handler panics in the call.
    PanicsInTheCall,
    /// A future of the handler in its actor's context panics, and the actor with it.
    PanicsInAFuture,
}

struct Tester(Poison);

impl Actor for Tester {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Tester {
    type Result = ResponseActFuture<Self, Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        match self.0 {
            Poison::Fails => Box::pin(fut::ready(Err(Failure::retry("no such order")))),
            Poison::PanicsInTheCall => panic!("no such order"),
            Poison::PanicsInAFuture => Box::pin(async { panic!("no such order") }.into_actor(self)),
        }
    }
}

/// Consumes one poisonous message.
async fn poisoned(poison: Poison) -> Result<(), fluffle::Error> {
    let app = App::new(broker(&std::env::var("AMQP_URL").unwrap()))
        .topology(Topology::new().queue(Queue::quorum("orders").dead_letter()));
    let out = app.publisher::<String>(Route::queue("orders"));
    let consume = Consume::queue("orders").retry(retry(ATTEMPTS));
    let service = started(app.consume(consume, move || Tester(poison))).await;
    let trace: TraceContext = TRACE.parse().unwrap();
    let options = MessageOptions::new().id("order-7").trace(&trace);
    out.publish_with(SECRET.to_owned(), options).await.unwrap();
    service.run_until_signal().await?;
    Ok(())
}

/// Starts the program, waits for the line with these words, and ends the program. Returns its log up to that line.
fn log_until(program: Program, url: &str, words: &[&str]) -> Vec<String> {
    let process = program.env("AMQP_URL", url).start();
    let last = process.line(words, SECONDS);
    let lines = log_of(process);
    let last = log(&[last]).pop().unwrap();
    let upto = lines.iter().position(|line| *line == last).unwrap();
    lines[..=upto].to_vec()
}

/// Ends the process and returns its log, in which no secret is.
fn log_of(process: Process) -> Vec<String> {
    process.signal("TERM");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 0, "{lines:#?}");
    assert!(with(&lines, SECRET).is_empty(), "{lines:#?}");
    log(&lines)
}

/// Checks the story of a poison message: one line for each attempt, and the last one says where the message is.
fn tells_its_story(program: Program, error: &str) {
    let vhost = vhost();
    let lines = log_until(program, vhost.url(), &["dead letter", "order-7"]);
    println!("{}", lines.join("\n"));
    let loud: Vec<&String> = lines.iter().filter(|line| !line.starts_with("INFO")).collect();
    assert_eq!(loud.len(), ATTEMPTS as usize, "{loud:#?}");
    for (line, attempt) in loud.iter().zip(1..) {
        assert_eq!(field(line, "queue"), "orders");
        assert_eq!(field(line, "message_id"), "order-7");
        assert_eq!(number(line, "attempt"), attempt);
        assert_eq!(field(line, "trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(field(line, "error").contains(error), "{line}");
        if attempt < ATTEMPTS as usize {
            assert!(line.starts_with("WARN") && line.contains("tried again"), "{line}");
            assert!(field(line, "retry_in").ends_with("ms"), "{line}");
        }
    }
    let last = loud.last().unwrap();
    assert!(last.starts_with("ERROR"), "{last}");
    assert_eq!(field(last, "dead_letter_queue"), "orders.dead");
    assert_eq!(field(last, "reason"), "attempts-exhausted");
}

#[test]
fn a_message_that_fails_each_time_has_a_line_for_each_attempt_and_the_last_says_where_it_is() {
    tells_its_story(service(this_test!(), Log::On, || poisoned(Poison::Fails)), "no such order");
}

#[test]
fn a_message_that_crashes_its_handler_each_time_has_a_line_for_each_attempt_and_no_other() {
    let program = service(this_test!(), Log::On, || poisoned(Poison::PanicsInTheCall));
    tells_its_story(program, "the handler panicked: no such order");
}

#[test]
fn a_message_that_crashes_a_future_of_its_handler_has_a_line_for_each_attempt_and_no_other() {
    let program = service(this_test!(), Log::On, || poisoned(Poison::PanicsInAFuture));
    tells_its_story(program, "no such order");
}

/// Panics 10 ms after each message. It answers at once, or, for the text `busy`, after the panic.
struct Restless;

impl Actor for Restless {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Restless {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, ctx: &mut Self::Context) -> Self::Result {
        ctx.run_later(Duration::from_millis(10), |_, _| panic!("the clock broke"));
        let takes = if *text == "busy" { Duration::from_millis(300) } else { Duration::ZERO };
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(())
        })
    }
}

/// Starts a service on the broker of the environment, with one consumer of `orders`.
async fn orders<A>(factory: impl Fn() -> A + Send + Sync + 'static) -> (Service, Publisher<String>)
where
    A: Actor<Context = Context<A>> + Handler<Delivery<String>, Result = ResponseFuture<Result<(), Failure>>>,
{
    let app = App::new(broker(&std::env::var("AMQP_URL").unwrap()))
        .topology(Topology::new().queue(Queue::quorum("orders").dead_letter()));
    let out = app.publisher::<String>(Route::queue("orders"));
    (started(app.consume(Consume::queue("orders"), factory)).await, out)
}

fn loud(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| !line.starts_with("INFO")).collect()
}

#[test]
fn a_panic_of_a_handler_outside_its_messages_is_told_once_whether_or_not_it_has_one_in_hand() {
    let program = service(this_test!(), Log::On, || async {
        let (service, out) = orders(|| Restless).await;
        out.publish("idle".to_owned()).await.unwrap();
        let restarts = || service.snapshot().find("app/handlers/orders/0").map(|handler| handler.restarts);
        until("it is started again", || restarts() == Some(1)).await;
        out.publish("busy".to_owned()).await.unwrap();
        service.run_until_signal().await
    });
    let vhost = vhost();
    let lines = log_until(program, vhost.url(), &["a handler panicked outside its messages"]);
    let [idle, busy] = loud(&lines)[..] else { panic!("{lines:#?}") };
    assert_eq!(field(idle, "path"), "app/handlers/orders/0");
    assert!(idle.starts_with("WARN") && field(idle, "reason").contains("the clock broke"), "{idle}");
    assert!(busy.starts_with("WARN") && field(busy, "panic").contains("the clock broke"), "{busy}");
    assert_eq!(field(busy, "handler"), "orders/0");
}

#[test]
fn a_start_of_four_consumers_is_at_most_ten_lines() {
    let program = service(this_test!(), Log::On, || async {
        let topology = QUEUES.iter().fold(Topology::new(), |topology, queue| topology.queue(Queue::quorum(*queue)));
        let mut app = App::new(broker(&std::env::var("AMQP_URL").unwrap())).topology(topology);
        let out = app.publisher::<String>(Route::queue(QUEUES[0]));
        for queue in QUEUES {
            app = app.consume(Consume::queue(queue), handlers(|_| Act::Ok).0);
        }
        let service = started(app).await;
        eprintln!("ready, with {}", out.stats().outstanding);
        service.run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["ready, with 0"], SECONDS);
    let start = log(&process.lines());
    log_of(process);
    println!("{}", start.join("\n"));
    assert!((6..=10).contains(&start.len()) && loud(&start).is_empty(), "{start:#?}");
    for connection in ["publish-0", "consume-0"] {
        assert_eq!(with(&start, &format!("connected, topology declared connection={connection} ")).len(), 1);
    }
    for queue in QUEUES {
        assert_eq!(with(&start, &format!("consuming queue={queue} ")).len(), 1, "{start:#?}");
    }
}

#[test]
fn a_lost_connection_is_told_when_it_is_lost_and_when_it_is_back_and_the_channels_on_it_are_not() {
    let program = service(this_test!(), Log::On, || async {
        let (service, _out) = orders(|| Hanging).await;
        service.run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["consuming"], SECONDS);
    vhost.close_connections("a test closes it");
    for connection in ["publish-0", "consume-0"] {
        process.line(&["connection back", &format!("connection={connection} ")], SECONDS);
    }
    let lines = log_of(process);
    let loud = loud(&lines);
    println!("{loud:#?}");
    assert_eq!(loud.len(), 4, "{lines:#?}");
    for line in with(&lines, "connection lost") {
        assert!(field(line, "cause").contains("a test closes it"), "{line}");
    }
    assert_eq!(with(&lines, "connection lost").len(), 2, "{lines:#?}");
    assert_eq!(with(&lines, "consuming").len(), 1, "{lines:#?}");
}

#[test]
fn a_queue_that_is_deleted_is_told_with_its_cause_and_so_is_the_consumer_that_is_back() {
    let program = service(this_test!(), Log::On, || async {
        let (service, _out) = orders(|| Hanging).await;
        service.run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["consuming queue=orders"], SECONDS);
    actix::System::new().block_on(async { Raw::connect(vhost.url()).await.delete("orders").await });
    process.line(&["consuming again, on a new channel", "queue=orders", "generation=2"], SECONDS);
    let lines = log_of(process);
    let [told] = loud(&lines)[..] else { panic!("{lines:#?}") };
    assert_eq!(field(told, "path"), "app/consume/consume-0/channels/orders/channel");
    assert!(field(told, "reason").contains("the queue was deleted"), "{told}");
    assert!(told.contains("it is started again after the delay"), "{told}");
}

/// Never answers.
struct Hanging;

impl Actor for Hanging {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Hanging {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}
