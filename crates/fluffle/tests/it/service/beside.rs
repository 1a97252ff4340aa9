//! A service among others: beside actix-web, under any executor, and with a system that ends before it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpResponse, HttpServer, web};
use fluffle::prelude::*;
use tokio::sync::Notify;

use crate::support::{
    process::{Log, Process, Program, service, this_test},
    *,
};

/// The limit for each step. It allows for a cold start on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

/// Answers when `go` says so. Before that it uses a timer and publishes, which fails on a thread without a runtime.
struct Late {
    go: Arc<Notify>,
    out: Publisher<String>,
}

impl Actor for Late {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Late {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        eprintln!("handling {}", *text);
        let (go, out) = (Arc::clone(&self.go), self.out.clone());
        Box::pin(async move {
            go.notified().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            out.publish(text.to_uppercase()).await?;
            Ok(())
        })
    }
}

fn topology() -> Topology {
    Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("out"))
}

/// Reports when it is dropped. An arbiter drops its tasks when it ends.
struct AtTheEnd(Arc<Notify>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        eprintln!("the application's system is stopped");
        self.0.notify_one();
    }
}

/// An HTTP server that publishes a message for each request and handles signals itself, and a service whose handler
/// answers when the server has stopped the system.
async fn shop(together: bool) -> Result<(), fluffle::Error> {
    let app = fluffle::App::new(Broker::from_env()?).topology(topology()).drain_within(Duration::from_secs(60));
    let (orders, out) = (app.publisher::<String>(Route::queue("q")), app.publisher(Route::queue("out")));
    let go = Arc::new(Notify::new());
    let handler = {
        let go = Arc::clone(&go);
        move || Late { go: Arc::clone(&go), out: out.clone() }
    };
    let service = app.consume(Consume::queue("q"), handler).start().await?;
    let at_the_end = AtTheEnd(go);
    actix::Arbiter::new().spawn(async move {
        let _at_the_end = at_the_end;
        std::future::pending::<()>().await;
    });
    let server = HttpServer::new(move || {
        let orders = orders.clone();
        let order = move |text: web::Path<String>| {
            let orders = orders.clone();
            async move {
                match orders.publish(text.into_inner()).await {
                    Ok(confirmed) => HttpResponse::Accepted().body(confirmed.id.to_string()),
                    Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
                }
            }
        };
        actix_web::App::new().route("/order/{text}", web::get().to(order))
    });
    let server = server.workers(1).bind("127.0.0.1:0")?;
    eprintln!("listening on {}", server.addrs()[0]);
    if together {
        let (served, ended) = tokio::join!(server.run(), service.run_until_signal());
        served?;
        ended?;
    } else {
        server.run().await?;
        service.shutdown().await?;
    }
    eprintln!("all is done");
    Ok(())
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends the process an order and then SIGTERM. Its handler finishes only after the application's system was stopped.
fn sigterm_with_an_order_in_hand(program: Program) {
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).env("RUST_BACKTRACE", "0").start();
    let line = process.line(&["listening on"], SECONDS);
    let answer = get(line.rsplit(' ').next().unwrap(), "/order/one");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    process.line(&["handling one"], SECONDS);
    process.signal("TERM");
    process.line(&["the application's system is stopped"], SECONDS);
    no_panic(process, 0, &["drain: everything in hand is settled", "all is done"]);
    vhost.wait_depth("out", |depth| depth.ready == 1);
    vhost.wait_depth("q", |depth| depth.ready + depth.unacked == 0);
}

/// Checks that the process ends with this exit code, that its log has all of `said`, and that nothing panicked.
fn no_panic(process: Process, expected: i32, said: &[&str]) -> Vec<String> {
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, expected, "{lines:#?}");
    for words in said {
        assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is missing: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("panicked at") || line.contains("cut off")), "{lines:#?}");
    lines
}

#[test]
fn beside_actix_web_the_drain_gets_done_after_the_server_has_stopped_the_system() {
    let name = this_test!();
    sigterm_with_an_order_in_hand(service(name, Log::On, || shop(true)));
}

#[test]
fn a_service_that_is_shut_down_after_actix_webs_server_has_ended_drains_too() {
    let name = this_test!();
    sigterm_with_an_order_in_hand(service(name, Log::On, || shop(false)));
}

struct StopsItsSystem;

impl Actor for StopsItsSystem {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for StopsItsSystem {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        actix::System::current().stop();
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_handler_that_stops_its_system_ends_the_service_with_an_error_and_nothing_panics() {
    let name = this_test!();
    let program = service(name, Log::On, || async {
        let app = fluffle::App::new(Broker::from_env()?).topology(topology()).drain_within(Duration::from_secs(2));
        let to_q = app.publisher::<String>(Route::queue("q"));
        let app = app.consume(Consume::queue("q"), || StopsItsSystem);
        let service = app.start().await?;
        to_q.publish("stop".to_owned()).await?;
        let ended = service.run_until_signal().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        eprintln!("the application goes on");
        Ok::<(), fluffle::Error>(ended?)
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).env("RUST_BACKTRACE", "0").start();
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 1, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("panicked at")), "{lines:#?}");
    for words in ["the application goes on", "Error: gave up: app/application lost its arbiter"] {
        assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is missing: {lines:#?}");
    }
    vhost.wait_depth("q", |depth| depth.ready == 1 && depth.consumers == 0);
}

/// The system in which a service was started ends without a shutdown of the service. The service handles messages until
/// it is shut down.
#[test]
fn a_service_outlives_the_system_it_was_started_in_and_the_drop_of_its_handle() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let system = actix::System::new();
    let (service, out) = system.block_on(async {
        let app = fluffle::App::new(broker(vhost.url())).topology(topology());
        let out = app.publisher::<String>(Route::queue("q"));
        let service = started(app.consume(Consume::queue("q"), factory)).await;
        out.publish("before".to_owned()).await.unwrap();
        assert_eq!(next(&mut record).await.text, "before");
        actix::System::current().stop();
        (service, out)
    });
    system.run().unwrap();
    let other = service.clone();
    drop(service);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        soon("confirmed", out.publish("after".to_owned())).await.unwrap();
        assert_eq!(next(&mut record).await.text, "after");
        soon("the shutdown", other.shutdown()).await.unwrap();
    });
    vhost.wait_depth("q", |depth| depth == fluffle_harness::QueueDepth::default());
}

/// When the last handle is dropped, nothing can shut the service down, and it runs until the process ends.
#[actix::test]
async fn dropping_the_last_handle_of_a_service_stops_nothing() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = fluffle::App::new(broker(vhost.url())).topology(topology());
    let out = app.publisher::<String>(Route::queue("q"));
    drop(started(app.consume(Consume::queue("q"), factory)).await);
    for text in ["a", "b"] {
        soon("confirmed", out.publish(text.to_owned())).await.unwrap();
        assert_eq!(next(&mut record).await.text, text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_needs_no_actix_system_under_tokio() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = fluffle::App::new(broker(vhost.url())).topology(topology());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    let publishing = tokio::spawn(async move { out.publish("a".to_owned()).await.map(drop) });
    publishing.await.unwrap().unwrap();
    assert_eq!(next(&mut record).await.text, "a");
    soon("the shutdown", service.shutdown()).await.unwrap();
}

/// Everything that an application awaits works on a thread without a runtime.
#[test]
fn a_service_starts_works_and_ends_on_a_thread_without_a_runtime() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    futures_executor::block_on(async {
        let app = fluffle::App::new(broker(vhost.url())).topology(topology());
        let out = app.publisher::<String>(Route::queue("q"));
        let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
        service.ready().await.unwrap();
        out.publish("a".to_owned()).await.unwrap();
        assert_eq!(record.recv().await.unwrap().text, "a");
        service.shutdown().await.unwrap();
    });
}

/// A drain that was begun is finished even if the future that began it is dropped.
#[actix::test]
async fn a_shutdown_that_is_dropped_goes_on() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = fluffle::App::new(broker(vhost.url())).topology(topology());
    let service = started(app.consume(Consume::<String>::queue("q"), factory)).await;
    let mut stopping = Box::pin(service.shutdown());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    drop(stopping);
    soon("the end", service.wait()).await.unwrap();
    assert!(soon("the handlers' end", record.recv()).await.is_none());
}
