//! A server that answers while the service cannot, and how long `/metrics` takes for many queues.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use fluffle::{amqp::Replay, prelude::*, supervise::ActorSpec};

use crate::{
    client::{body, code, get},
    service::{DEAD, Served, status, until},
};

/// Blocks its thread while the test holds the gate.
#[derive(Clone)]
struct Blocks(Arc<RwLock<()>>);

impl Blocks {
    fn block(&self) {
        drop(self.0.read().unwrap());
    }
}

impl Actor for Blocks {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Blocks {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.block();
        Ok(())
    }
}

/// An actor of the application, whose thread is that of all such actors.
struct BlocksLater(Blocks);

impl Actor for BlocksLater {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_millis(10), |this, _| this.0.block());
    }
}

#[test]
fn metrics_and_probes_answer_while_every_thread_of_the_service_is_blocked() {
    let blocks = Blocks(Arc::default());
    let (handler, actor) = (blocks.clone(), blocks.clone());
    let mut out = None;
    let served = Served::start_with(status(), |app| {
        let app = app.topology(Topology::new().queue(Queue::quorum("orders")).queue(Queue::quorum("slow")));
        out = Some(app.publisher::<String>(Route::queue("slow")));
        let app = app.supervise(ActorSpec::new("blocks", move || BlocksLater(actor.clone())));
        app.consume(Consume::queue("slow").instances(2), move || handler.clone())
    });
    // A letter whose replay blocks the thread of the connections.
    served.publish(&["dies"]);
    until("it is dead", || served.dead_letters() == 1);
    let (out, gate) = (out.unwrap(), blocks.0.write().unwrap());
    for text in ["a", "b"] {
        served.block_on(out.publish(text.to_owned())).unwrap();
    }
    served.picture("both handlers are at work", |picture| {
        picture.queues.iter().any(|queue| queue.name == "slow" && queue.in_hand == 2 && queue.waiting == 0)
    });
    let (service, filter) = (served.service.clone(), blocks.clone());
    let replay = std::thread::spawn(move || {
        let replay = Replay::from(DEAD).dry_run().filter(move |_| {
            filter.block();
            false
        });
        actix::System::new().block_on(service.replay(replay)).unwrap()
    });
    let names = |threads: Vec<fluffle::amqp::ThreadStatus>| -> Vec<String> {
        threads.into_iter().map(|thread| thread.name).filter(|name| !name.starts_with("orders/")).collect()
    };
    until("every thread is late, but for the one that has no work", || {
        let threads = served.service.threads();
        let late: Vec<_> = threads.iter().filter(|thread| thread.lag > Duration::from_millis(300)).cloned().collect();
        names(late) == names(threads)
    });
    for path in ["/metrics", "/live", "/ready", "/", "/picture.json", "/history.json"] {
        let answer = get(&served, path, "");
        assert_eq!(code(&answer), 200, "{path}: {answer}");
    }
    let metrics = get(&served, "/metrics", "");
    for thread in names(served.service.threads()) {
        let name = format!("fluffle_arbiter_lag_seconds{{arbiter=\"{thread}\"}} ");
        let lag = body(&metrics).lines().find_map(|line| line.strip_prefix(&name)).expect(&thread);
        assert!(lag.parse::<f64>().unwrap() > 0.3, "{thread}: {lag}");
    }
    drop(gate);
    assert_eq!(replay.join().unwrap().filtered, 1);
    served.picture("all is well again", |picture| picture.queues.iter().all(|queue| queue.in_hand == 0));
}

/// Prints the figures of docs/PERFORMANCE.md.
#[test]
fn metrics_of_64_queues() {
    let idle = Blocks(Arc::default());
    let served = Served::start_with(status(), |app| {
        let names: Vec<_> = (0..64).map(|number| format!("q{number:02}")).collect();
        let queues = names.iter().fold(Topology::new().queue(Queue::quorum("orders")), |topology, name| {
            topology.queue(Queue::quorum(name.as_str()))
        });
        names.iter().fold(app.topology(queues), |app, name| {
            let idle = idle.clone();
            app.consume(Consume::queue(name.as_str()), move || idle.clone())
        })
    });
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..50 {
        let begun = Instant::now();
        let answer = get(&served, "/metrics", "");
        times.push(begun.elapsed());
        assert!(body(&answer).contains("fluffle_consume_prefetch{queue=\"q63\"}"), "{answer}");
        size = body(&answer).len();
    }
    times.sort_unstable();
    println!("/metrics with 64 queues: {size} bytes; median {:?}, slowest of 50 {:?}", times[25], times[49]);
}
