//! What can be seen of a tree from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use actix::prelude::*;
use actix_rt::Arbiter;
use fluffle_supervise::{
    ActorSpec, Backoff, Intensity, MailboxDepth, Missed, NodeKind, Restart, State, Strategy, SupervisorSpec, What,
};
use support::{Crash, Finish, Watcher, Which, good, paused, real};
use tokio::time::sleep;

const SEC: Duration = Duration::from_secs(1);

#[test]
fn the_picture_shows_every_node_on_a_line_of_its_own() {
    paused(async {
        let ((socket, socket_addr), (publish, publish_addr), (once, once_addr)) =
            (good("socket"), good("publish"), good("once"));
        let consume =
            SupervisorSpec::new("consume").strategy(Strategy::RestForOne).child(socket).child(good("worker").0);
        let publish = publish.backoff(Backoff::exponential(4 * SEC, 4 * SEC).unwrap());
        let app =
            SupervisorSpec::new("app").child(consume).child(publish).child(once.restart(Restart::Transient)).start();
        once_addr.send(Finish).await.unwrap();
        sleep(10 * SEC).await;
        socket_addr.send(Crash).await.unwrap_err();
        sleep(SEC).await;
        publish_addr.send(Crash).await.unwrap_err();
        publish_addr.post(Which).await.unwrap();
        sleep(SEC).await;
        assert_eq!(
            app.snapshot().to_string(),
            "app  one-for-one  running for 12s\n\
             ├─ consume  rest-for-one  running for 12s\n\
             │  ├─ socket  running for 2s  1 restart  last exit: panicked in a handler: crashed as asked\n\
             │  └─ worker  running for 2s  1 restart\n\
             ├─ publish  backing off for 1s  next restart in 3.0s  mailbox 1/64  last exit: panicked in a handler: \
             crashed as asked\n\
             └─ once  stopped for 12s  last exit: finished"
        );
        app.shutdown().await;
    });
}

#[test]
fn a_node_is_found_by_its_path() {
    paused(async {
        let (leaf, _) = good("leaf");
        let inner = SupervisorSpec::new("inner").strategy(Strategy::OneForAll).child(leaf);
        let app = SupervisorSpec::new("app").child(inner).start();
        let snapshot = app.snapshot();
        let find = |path| snapshot.find(path).map(|node| (&*node.id, node.kind, node.mailbox));
        assert_eq!(find("app"), Some(("app", NodeKind::Supervisor(Strategy::OneForOne), None)));
        assert_eq!(find("app/inner"), Some(("inner", NodeKind::Supervisor(Strategy::OneForAll), None)));
        let empty = MailboxDepth { waiting: 0, capacity: 64 };
        assert_eq!(find("app/inner/leaf"), Some(("leaf", NodeKind::Actor, Some(empty))));
        assert_eq!(find("inner"), None);
        app.shutdown().await;
    });
}

#[test]
fn a_tree_not_yet_started_can_be_looked_at() {
    let (child, _) = good("child");
    let app = SupervisorSpec::new("app").child(child);
    let snapshot = app.handle().snapshot();
    assert_eq!((snapshot.state, snapshot.children[0].state), (State::Waiting, State::Waiting));
    assert_eq!(&*snapshot.children[0].path, "app/child");
}

#[test]
fn an_actor_with_a_queue_of_its_own_shows_that_one() {
    let (child, _) = good("child");
    let child = child.mailbox_gauge(|| MailboxDepth { waiting: 7, capacity: 256 });
    let app = SupervisorSpec::new("app").child(child);
    assert_eq!(app.handle().snapshot().children[0].mailbox, Some(MailboxDepth { waiting: 7, capacity: 256 }));
}

#[test]
fn a_snapshot_asks_no_actor_and_works_while_all_are_blocked() {
    struct Stuck(Arc<std::sync::Mutex<mpsc::Receiver<()>>>);
    impl Actor for Stuck {
        type Context = Context<Self>;
        fn started(&mut self, _: &mut Self::Context) {
            let _ = self.0.lock().unwrap().recv();
        }
    }
    real(async {
        let (release, until) = mpsc::channel();
        let until = Arc::new(std::sync::Mutex::new(until));
        let stuck = ActorSpec::new("stuck", move || Stuck(until.clone()));
        let below = SupervisorSpec::new("below").on(Arbiter::new().handle()).child(stuck);
        let app = SupervisorSpec::new("app").child(below).start();
        while app.snapshot().find("app/below/stuck").unwrap().state != State::Starting {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        app.shutdown().await;
    });
}

#[test]
fn events_come_in_order_and_end_with_the_tree() {
    paused(async {
        let (child, addr) = good("child");
        let spec = SupervisorSpec::new("app").child(child.restart(Restart::Transient));
        let events = Watcher::new(&spec.handle());
        let app = spec.start();
        Watcher::new(&app).ready("app").await;
        addr.send(Crash).await.unwrap_err();
        addr.send(Finish).await.unwrap();
        app.shutdown().await;
        assert_eq!(
            events.rest().await,
            [
                "app: started (incarnation 1)",
                "app/child: started (incarnation 1)",
                "app/child: ready",
                "app: ready",
                "app/child: panicked in a handler: crashed as asked",
                "app/child: waits 0ns before restart 1 in a row",
                "app/child: restarting",
                "app/child: started (incarnation 2)",
                "app/child: ready",
                "app/child: finished",
                "app/child: over for good",
                "app: asked to stop",
                "app: stopped on request",
                "app: over for good",
            ]
        );
        assert!(app.events().next().await.is_none(), "nothing more can happen");
    });
}

#[test]
fn the_handle_of_a_supervisor_below_hears_of_its_own_part_only() {
    paused(async {
        let ((inside, inside_addr), (outside, outside_addr)) = (good("inside"), good("outside"));
        let below = SupervisorSpec::new("below").child(inside);
        let handle = below.handle();
        let app = SupervisorSpec::new("app").child(below).child(outside).start();
        outside_addr.send(Which).await.unwrap();
        let events = Watcher::new(&handle);
        outside_addr.send(Crash).await.unwrap_err();
        inside_addr.send(Crash).await.unwrap_err();
        assert_eq!(inside_addr.send(Which).await.unwrap(), 2);
        app.shutdown().await;
        let rest = events.rest().await;
        assert!(rest.iter().all(|event| event.starts_with("app/below")), "{rest:?}");
        assert!(rest.contains(&"app/below/inside: restarting".to_owned()), "{rest:?}");
    });
}

#[test]
fn an_escalation_is_an_event_of_the_supervisor_that_gives_up() {
    paused(async {
        let (child, addr) = good("child");
        let app = SupervisorSpec::new("app").intensity(Intensity::new(0, SEC).unwrap()).child(child).start();
        let mut events = Watcher::new(&app);
        addr.send(Crash).await.unwrap_err();
        let escalation = events
            .until(|event| match &event.what {
                What::Escalated { escalation } if &*event.path == "app" => Some(escalation.clone()),
                _ => None,
            })
            .await;
        assert_eq!(escalation.path(), "app/child");
        app.wait().await;
    });
}

#[test]
fn an_observer_misses_nothing_and_is_told_where_it_happens() {
    paused(async {
        let (child, addr) = good("child");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let observed = Arc::clone(&heard);
        let app = SupervisorSpec::new("app")
            .intensity(Intensity::unlimited())
            .child(child)
            .observe(move |event| observed.lock().unwrap().push(event.to_string()))
            .start();
        addr.send(Which).await.unwrap();
        let before = heard.lock().unwrap().len();
        for _ in 0..100 {
            addr.send(Crash).await.unwrap_err();
            addr.send(Which).await.unwrap();
        }
        let crashes = heard.lock().unwrap()[before..].to_vec();
        assert_eq!(crashes.len(), 500, "a reader of 256 events would have missed some");
        assert!(crashes[..5].iter().all(|event| event.starts_with("app/child: ")), "{:?}", &crashes[..5]);
        assert_eq!(crashes[2], "app/child: restarting");
        app.shutdown().await;
    });
}

#[test]
fn a_slow_reader_is_told_how_many_events_it_missed() {
    paused(async {
        let (child, addr) = good("child");
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(child).start();
        addr.send(Which).await.unwrap();
        let mut events = app.events();
        // Each crash makes five events: exited, backoff, restarting, started, ready.
        for _ in 0..100 {
            addr.send(Crash).await.unwrap_err();
            addr.send(Which).await.unwrap();
        }
        assert_eq!(events.next().await.unwrap().unwrap_err(), Missed(500 - 256));
        assert!(events.next().await.unwrap().is_ok());
        app.shutdown().await;
    });
}
