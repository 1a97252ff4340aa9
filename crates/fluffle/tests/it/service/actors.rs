//! The application's own actors in the service's tree.

use std::sync::Arc;

use fluffle::prelude::*;
use fluffle::{supervise::ActorSpec, testing::TestBroker};
use tokio::sync::{Notify, mpsc};

use crate::support::*;

/// Publishes a farewell when it is asked to stop, and waits for its confirm.
struct Clerk {
    out: Publisher<String>,
    started: mpsc::UnboundedSender<std::thread::ThreadId>,
    confirmed: bool,
}

impl Actor for Clerk {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.started.send(std::thread::current().id()).unwrap();
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.confirmed {
            return Running::Stop;
        }
        let out = self.out.clone();
        let farewell = async move { out.publish("farewell".to_owned()).await }.into_actor(self);
        ctx.spawn(farewell.map(|published, clerk, ctx| {
            published.unwrap();
            clerk.confirmed = true;
            ctx.stop();
        }));
        Running::Continue
    }
}

#[derive(Message)]
#[rtype(u32)]
struct Divide(u32, u32);

impl Handler<Divide> for Clerk {
    type Result = u32;

    fn handle(&mut self, Divide(a, b): Divide, _: &mut Self::Context) -> u32 {
        a / b
    }
}

fn clerk(out: Publisher<String>) -> (ActorSpec<Clerk>, mpsc::UnboundedReceiver<std::thread::ThreadId>) {
    let (started, starts) = mpsc::unbounded_channel();
    let factory = move || Clerk { out: out.clone(), started: started.clone(), confirmed: false };
    (ActorSpec::new("clerk", factory).backoff(fast()).shutdown(SOON), starts)
}

#[actix::test]
async fn an_actor_of_the_application_lives_in_the_tree_on_a_thread_of_its_own_and_comes_back_after_a_crash() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q")));
    let (spec, mut starts) = clerk(app.publisher(Route::queue("q")));
    let addr = spec.addr();
    let service = started(app.supervise(spec)).await;
    let thread = soon("its start", starts.recv()).await.unwrap();
    assert_ne!(thread, std::thread::current().id());
    assert!(soon("the crash", addr.send(Divide(1, 0))).await.is_err());
    assert_eq!(soon("an answer", addr.send(Divide(6, 3))).await.unwrap(), 2);
    assert_eq!(service.snapshot().find("app/application/clerk").unwrap().restarts, 1);
    soon("shutdown", service.shutdown()).await.unwrap();
}

#[actix::test]
async fn two_actors_of_one_name_are_refused() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q")));
    let (one, other) = (clerk(app.publisher(Route::queue("q"))).0, clerk(app.publisher(Route::queue("q"))).0);
    let error = app.supervise(one).supervise(other).start().await.err().unwrap();
    assert!(error.to_string().contains("already has a child named \"clerk\""), "{error}");
}

#[actix::test]
async fn an_actor_of_the_application_keeps_no_service_from_starting_without_a_broker() {
    // Nothing listens on this port.
    let app = || App::new(Broker::new("amqp://127.0.0.1:1").unwrap().reconnect(fast()));
    let (one, other) = (app(), app());
    let clerk = |app: &App| clerk(app.publisher(Route::queue("q"))).0;
    let spec = clerk(&one);
    let service = soon("it starts", one.supervise(spec).start()).await.unwrap();
    assert!(service.snapshot().find("app/application/clerk").is_none(), "the actor must start after the publishers");
    soon("shutdown", service.shutdown()).await.unwrap();

    let (spec, again) = (clerk(&other), clerk(&other));
    let error = soon("it is refused", other.supervise(spec).supervise(again).start()).await.err().unwrap();
    assert!(error.to_string().contains("already has a child named \"clerk\""), "{error}");
}

/// At the shutdown, a handler that finishes late can still use the application's actor, and the actor can still use its
/// publisher.
#[actix::test]
async fn at_shutdown_it_outlives_the_consumers_and_is_outlived_by_the_publishers() {
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new().queue(Queue::classic("q")).queue(Queue::classic("jobs"));
    let app = App::new(broker.client().unwrap()).topology(topology);
    let (spec, _starts) = clerk(app.publisher(Route::queue("q")));
    let (clerk, jobs) = (spec.addr(), app.publisher(Route::queue("jobs")));
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (answer, mut answers) = mpsc::unbounded_channel();
    let handler = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        move || Late { clerk: clerk.clone(), begun: Arc::clone(&begun), go: Arc::clone(&go), answer: answer.clone() }
    };
    let service = started(app.supervise(spec).consume(Consume::queue("jobs"), handler)).await;
    jobs.publish("job".to_owned()).await.unwrap();
    soon("the handler", begun.notified()).await;
    let stopping = actix::spawn({
        let service = service.clone();
        async move { service.shutdown().await }
    });
    let mut events = service.events();
    // When the state of the consumers shows that they were told to stop, the handler may finish.
    soon("draining", async {
        while service
            .snapshot()
            .find("app/consume")
            .is_some_and(|node| node.state == fluffle::supervise::State::Running)
        {
            let _ = events.next().await;
        }
    })
    .await;
    go.notify_one();
    assert_eq!(soon("its answer", answers.recv()).await, Some(Some(2)));
    soon("shutdown", stopping).await.unwrap().unwrap();
    assert_eq!(broker.read::<String>("q").unwrap()[0].message().unwrap(), "farewell");
}

struct Late {
    clerk: fluffle::supervise::SupervisedAddr<Clerk>,
    begun: Arc<Notify>,
    go: Arc<Notify>,
    answer: mpsc::UnboundedSender<Option<u32>>,
}

impl Actor for Late {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Late {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (clerk, begun, go) = (self.clerk.clone(), Arc::clone(&self.begun), Arc::clone(&self.go));
        let answer = self.answer.clone();
        Box::pin(async move {
            begun.notify_one();
            go.notified().await;
            answer.send(clerk.send(Divide(4, 2)).await.ok()).unwrap();
            Ok(())
        })
    }
}
