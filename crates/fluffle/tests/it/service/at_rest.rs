//! Consumers that have nothing to do: they wake no thread, and may share one.

use std::{fs, thread::ThreadId, time::Duration};

use fluffle::prelude::*;
use tokio::{sync::mpsc, time::sleep};

use crate::support::*;

/// How many consumers a service has at rest.
const MANY: usize = 200;

fn queue(number: usize) -> String {
    format!("q{number}")
}

/// The names and numbers of this process' threads that begin so.
fn threads(name: &str) -> Vec<(String, u64)> {
    let all = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = all.filter_map(|task| {
        let own = fs::read_to_string(task.join("comm")).ok()?;
        let status = fs::read_to_string(task.join("status")).ok()?;
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        own.starts_with(name).then(|| (own, sleeps.trim().parse().unwrap()))
    });
    named.collect()
}

/// How often `io` went to sleep so far.
fn sleeps() -> u64 {
    threads("fluffle-io").iter().map(|(_, sleeps)| sleeps).sum()
}

/// Says on which thread it handles.
struct Where(mpsc::UnboundedSender<ThreadId>);

impl Actor for Where {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Where {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send(std::thread::current().id()).unwrap();
        Ok(())
    }
}

#[actix::test]
async fn consumers_at_rest_wake_no_thread() {
    let place = vhost();
    let topology = (0..MANY).fold(Topology::new(), |topology, number| topology.queue(Queue::classic(queue(number))));
    let app = App::new(broker(place.url())).topology(topology);
    // Without side queues and on one thread, which makes the start short.
    let consume = |number| Consume::queue(queue(number)).guarantee(AtMostOnce).on_thread("rest");
    let app = (0..MANY).fold(app, |app, number| app.consume(consume(number), handlers(|_| Act::Ok).0));
    let service = started(app).await;
    sleep(Duration::from_secs(1)).await;
    let before = sleeps();
    sleep(Duration::from_secs(3)).await;
    let in_a_second = (sleeps() - before) / 3;
    // The connections look at themselves and their channels: eight of them, three times a second.
    assert!(in_a_second < 60, "{in_a_second} times a second");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn consumers_that_name_a_thread_share_it_until_the_last_of_them_is_removed() {
    let place = vhost();
    let names = ["a1", "a2", "b"];
    let topology = names.iter().fold(Topology::new(), |topology, name| topology.queue(Queue::classic(*name)));
    let app = App::new(broker(place.url())).topology(topology);
    let out = names.map(|name| app.publisher::<String>(Route::queue(name)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = names.iter().fold(app, |app, name| {
        let tell = tell.clone();
        app.consume(Consume::<String>::queue(*name).on_thread(&name[..1]), move || Where(tell.clone()))
    });
    let service = started(app).await;
    let mut on = Vec::new();
    for out in &out {
        out.publish("m".to_owned()).await.unwrap();
        on.push(soon("handled", told.recv()).await.unwrap());
    }
    assert!(on[0] == on[1] && on[0] != on[2], "{on:?}");
    service.remove_consumer("a1").await.unwrap();
    out[1].publish("m".to_owned()).await.unwrap();
    assert_eq!(soon("handled", told.recv()).await, Some(on[1]), "the thread stays while one of its consumers does");
    service.shutdown().await.unwrap();
}
