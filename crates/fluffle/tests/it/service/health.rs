//! What a service says of its health, and what is wrong in words.

use std::{sync::Arc, time::Duration};

use fluffle::{
    amqp::{BreakerState, ConsumerState, Health, KillSwitch, Window},
    broker::{Fault, Rule, Target},
    prelude::*,
    supervise::{ActorSpec, ExitError, SupervisedContext},
    testing::TestBroker,
};
use tokio::sync::Notify;

use crate::support::*;

/// Waits until the health is as `is_it` says, and gives it.
async fn health(service: &Service, what: &str, is_it: impl Fn(&Health) -> bool) -> Health {
    until(what, || is_it(&service.health())).await;
    service.health()
}

fn says(health: &Health, words: &[&str]) {
    let text = health.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

#[actix::test]
async fn without_a_broker_a_service_is_alive_and_says_which_connection_waits_for_what() {
    let embedded = TestBroker::start().unwrap();
    let refused = embedded.faults().inject(Rule::new(Fault::Refuse)).unwrap();
    let (factory, _record) = handlers(|_| Act::Ok);
    let app =
        App::new(embedded.client().unwrap().reconnect(fast())).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    let starting = health(&service, "it has tried", |health| health.to_string().contains("next try in")).await;
    assert!(starting.is_alive() && !starting.is_ready() && service.is_alive() && !service.is_ready());
    says(&starting, &["alive, not ready", "connection consume-0: not connected for", "1 consumer waits for it"]);
    assert!(!starting.to_string().contains("guest:guest"), "no password: {starting}");
    refused.heal().unwrap();
    soon("ready", service.ready()).await.unwrap();
    let ready = service.health();
    assert!(ready.is_ready() && ready.to_string() == "ready", "{ready}");
    drop(out);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_connection_is_not_ready_until_it_is_back() {
    let embedded = TestBroker::start().unwrap();
    let (factory, _record) = handlers(|_| Act::Ok);
    let app =
        App::new(embedded.client().unwrap().reconnect(fast())).topology(Topology::new().queue(Queue::quorum("q")));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    let refused = embedded.faults().inject(Rule::new(Fault::Refuse)).unwrap();
    embedded.faults().strike(Fault::Cut, Target::all()).unwrap();
    let lost = health(&service, "it is lost", |health| !health.is_ready()).await;
    assert!(lost.is_alive(), "{lost}");
    health(&service, "both are named", |health| {
        ["connection publish-0", "connection consume-0"].iter().all(|name| health.to_string().contains(name))
    })
    .await;
    refused.heal().unwrap();
    health(&service, "it is back", Health::is_ready).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_shutdown_is_alive_and_not_ready_and_its_end_is_neither() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&gate)));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    let stopping = actix::spawn({
        let service = service.clone();
        async move { service.shutdown().await }
    });
    let drains = health(&service, "it drains", |health| !health.is_ready()).await;
    assert!(drains.is_alive(), "{drains}");
    says(&drains, &["service: shuts down for"]);
    go.notify_waiters();
    soon("stopped", stopping).await.unwrap().unwrap();
    let over = service.health();
    assert!(!over.is_alive() && !over.is_ready());
    says(&over, &["not alive", "service: has ended for"]);
}

#[actix::test]
async fn paused_is_ready_and_noted() {
    let vhost = vhost();
    let (app, _out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    service.pause_consumer("q").await.unwrap();
    let paused = health(&service, "the channel is open again", Health::is_ready).await;
    says(&paused, &["ready\n", "consumer q: paused by the application for"]);
    service.resume_consumer("q").unwrap();
    health(&service, "it consumes", |health| health.to_string() == "ready").await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_kill_switch_is_not_ready_and_an_open_breaker_is() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|seen| match seen.text.as_str() {
        "down" => Act::Err(Failure::retry("the database is away")),
        _ => Act::Err(Failure::reject("never")),
    });
    let breaker = CircuitBreaker::new("database")
        .window(Window::last(1))
        .open_for(Backoff::exponential(Duration::from_secs(60), Duration::from_secs(60)).unwrap());
    let switch = KillSwitch::new(1.0, Window::last(1)).unwrap();
    let consume = Consume::queue("q").circuit_breaker(breaker).kill_switch(switch).retry(retry(9));
    let service = started(app.consume(consume, factory)).await;
    publish(&out, &["down"]).await;
    let open = health(&service, "the breaker is open", |health| health.to_string().contains("circuit breaker")).await;
    assert!(open.is_ready(), "{open}");
    let consumer = service.status().consumers.remove(0);
    let breaker = consumer.breaker.unwrap();
    assert_eq!((consumer.state, breaker.state), (ConsumerState::BreakerOpen, BreakerState::Open));
    assert!(breaker.half_open_at.is_some_and(|at| at > breaker.since), "{breaker:?}");
    assert_eq!(consumer.kill_switch.unwrap().state, BreakerState::Closed);
    service.resume_consumer("q").unwrap();
    publish(&out, &["rejected"]).await;
    let killed = health(&service, "it is killed", |health| health.to_string().contains("kill switch")).await;
    says(&killed, &["consumer q: stopped by its kill switch for", "`Service::resume_consumer`"]);
    assert!(killed.is_alive());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_connection_stays_ready_and_says_why_and_since_when() {
    let embedded = TestBroker::start().unwrap();
    let app = App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
    let alarm = embedded.faults().strike(alarm, Target::all()).unwrap();
    // Only a connection that publishes is told.
    let waiting = out.enqueue("a".to_owned()).await.unwrap();
    let blocked = health(&service, "it is blocked", |health| !health.notes.is_empty()).await;
    assert!(blocked.is_ready(), "{blocked}");
    says(&blocked, &["connection publish-0: the broker blocks publishing for", "low on memory"]);
    let connection = service.connections().into_iter().find(|one| one.blocked.is_some()).unwrap();
    assert!(connection.blocked_since.is_some_and(|blocked| blocked >= connection.since), "{connection:?}");
    // The broker may say that it blocks before the publisher has noted what it wrote.
    until("it is in flight", || service.status().publishers[0].in_flight == 1).await;
    let status = service.status();
    assert_eq!(status.publishers[0].stats.outstanding, 1);
    assert!(status.publishers[0].bytes > 0);
    alarm.heal().unwrap();
    soon("confirmed", waiting.confirmed()).await.unwrap();
    health(&service, "it goes on", |health| health.notes.is_empty()).await;
    // The sender hears of it before its bytes are given back.
    until("its bytes are free", || service.status().publishers[0].bytes == 0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_blocks_its_thread_is_seen_and_past_its_limit_the_service_is_not_alive() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let (factory, mut record) = handlers(move |_| {
        let _ = released.lock().unwrap().recv();
        Act::Ok
    });
    let consume = Consume::queue("q").handler_timeout(Duration::from_millis(150));
    let service = started(app.consume(consume, factory)).await;
    let lag = |name: &str| service.threads().into_iter().find(|thread| thread.name == name).unwrap().lag;
    until("all answer", || ["io", "application", "q/0"].iter().all(|name| lag(name) < Duration::from_millis(100)))
        .await;
    assert!(service.is_alive());
    drop(out.enqueue("a".to_owned()).await.unwrap());
    until("its lag grows", || lag("q/0") > Duration::from_millis(100)).await;
    assert!(service.is_alive(), "within the limits");
    until("it is past both limits", || !service.health_within(Duration::from_millis(50)).is_alive()).await;
    let late = service.health_within(Duration::from_millis(50));
    says(&late, &["not alive", "thread q/0: has not answered for"]);
    assert!(lag("q/0") > Duration::from_millis(150), "not before the handler's own time is over");
    assert!(service.is_alive(), "30 s are not over");
    release.send(()).unwrap();
    next(&mut record).await;
    until("it answers", || lag("q/0") < Duration::from_millis(100)).await;
    drop(release);
    service.shutdown().await.unwrap();
}

/// Fails at each start.
struct Fails;

impl Actor for Fails {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.fail(ExitError::transient(std::io::Error::other("no such folder")));
    }
}

#[actix::test]
async fn an_actor_of_the_application_that_does_not_run_is_named_with_its_reason() {
    let vhost = vhost();
    let (app, _out) = app(vhost.url());
    let service = started(app).await;
    service.supervise(ActorSpec::new("clerk", || Fails).backoff(fast())).await.unwrap();
    let down = health(&service, "it waits", |health| health.to_string().contains("no such folder")).await;
    assert!(down.is_alive(), "{down}");
    says(&down, &["actor app/application/clerk: "]);
    service.shutdown().await.unwrap();
}
