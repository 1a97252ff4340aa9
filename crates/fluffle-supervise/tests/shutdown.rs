//! Stopping: in reverse, each child with its deadline, and no thread can hold it up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use actix::prelude::*;
use actix_rt::Arbiter;
use fluffle_supervise::{
    ActorSpec, Backoff, ExitError, ExitReason, SendErrorKind, StartChildError, State, Strategy,
    SupervisedContext, SupervisorSpec,
};
use support::{Crash, Fail, Script, Watcher, Which, good, paused, real};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

#[test]
fn children_stop_one_after_the_other_in_reverse_down_to_the_root() {
    paused(async {
        let ((a, _), (b, _), (c, _), (d, _)) = (good("a"), good("b"), good("c"), good("d"));
        let below = SupervisorSpec::new("below").child(b).child(c);
        let app = SupervisorSpec::new("app")
            .child(a)
            .child(below)
            .child(d)
            .start();
        Watcher::new(&app).ready("app").await;
        let events = Watcher::new(&app);
        let handle = app.clone();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        let seen = events.rest().await;
        let ended: Vec<_> = seen
            .iter()
            .filter(|event| !event.ends_with("over for good"))
            .collect();
        let expected = [
            "app: asked to stop",
            "app/d: asked to stop",
            "app/d: stopped on request",
            "app/below: asked to stop",
            "app/below/c: asked to stop",
            "app/below/c: stopped on request",
            "app/below/b: asked to stop",
            "app/below/b: stopped on request",
            "app/below: stopped on request",
            "app/a: asked to stop",
            "app/a: stopped on request",
            "app: stopped on request",
        ];
        assert_eq!(ended, expected);
        assert_eq!(
            seen.len(),
            expected.len() + 6,
            "each of the six is over, once"
        );
        assert!(matches!(handle.wait().await, ExitReason::Stopped));
        assert!(
            matches!(handle.shutdown().await, ExitReason::Stopped),
            "again is no error"
        );
    });
}

/// Takes its time to stop.
struct Slow {
    takes: Option<Duration>,
    draining: bool,
    handled: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Slow {
    type Context = Context<Self>;

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.draining {
            return Running::Stop;
        }
        if let Some(takes) = self.takes {
            ctx.run_later(takes, |slow, ctx| {
                slow.draining = true;
                ctx.stop();
            });
        }
        Running::Continue
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note(u64);

impl Handler<Note> for Slow {
    type Result = ();

    fn handle(&mut self, Note(n): Note, _: &mut Self::Context) {
        self.handled.lock().unwrap().push(n);
    }
}

/// Blocks its thread until the sender is dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Block(mpsc::Receiver<()>);

impl Handler<Block> for Slow {
    type Result = ();

    fn handle(&mut self, Block(until): Block, _: &mut Self::Context) {
        let _ = until.recv();
        self.handled.lock().unwrap().push(0);
    }
}

fn slow(id: &str, takes: Option<Duration>) -> (ActorSpec<Slow>, Arc<Mutex<Vec<u64>>>) {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let spec = ActorSpec::new(id, {
        let handled = handled.clone();
        move || Slow {
            takes,
            draining: false,
            handled: handled.clone(),
        }
    });
    (spec.backoff(Backoff::none()), handled)
}

#[test]
fn an_actor_that_goes_on_when_asked_to_stop_may_finish_what_waits() {
    paused(async {
        let (spec, handled) = slow("slow", Some(3 * SEC));
        let addr = spec.addr();
        let app = SupervisorSpec::new("app")
            .child(spec.shutdown(4 * SEC))
            .start();
        addr.send(Note(1)).await.unwrap();
        let start = Instant::now();
        let late = async {
            sleep(SEC).await;
            addr.send(Note(2)).await.unwrap();
        };
        let (reason, ()) = tokio::join!(app.shutdown(), late);
        assert!(matches!(reason, ExitReason::Stopped));
        assert_eq!(start.elapsed(), 3 * SEC);
        assert_eq!(*handled.lock().unwrap(), [1, 2]);
        assert!(matches!(
            app.snapshot().children[0].last_exit,
            Some(ExitReason::Stopped)
        ));
    });
}

#[test]
fn each_child_has_its_own_deadline_and_is_killed_after_it() {
    paused(async {
        let ((a, _), (b, _), (c, _)) = (slow("a", None), slow("b", Some(SEC)), slow("c", None));
        let app = SupervisorSpec::new("app")
            .child(a.shutdown(2 * SEC))
            .child(b.shutdown(9 * SEC))
            .child(c.shutdown(4 * SEC));
        let app = app.start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        assert!(
            matches!(app.shutdown().await, ExitReason::Stopped),
            "the supervisor itself stopped in time"
        );
        assert_eq!(
            start.elapsed(),
            7 * SEC,
            "two deadlines and one that stopped by itself"
        );
        let ends: Vec<_> = app
            .snapshot()
            .children
            .iter()
            .map(|child| child.last_exit.clone().unwrap().to_string())
            .collect();
        assert_eq!(
            ends,
            [
                "killed: it did not stop by its deadline",
                "stopped on request",
                "killed: it did not stop by its deadline"
            ]
        );
        let states: Vec<_> = app
            .snapshot()
            .children
            .iter()
            .map(|child| child.state)
            .collect();
        assert_eq!(states, [State::Failed, State::Stopped, State::Failed]);
    });
}

#[test]
fn a_blocked_thread_does_not_hold_up_the_stop_nor_keep_the_messages() {
    real(async {
        let (spec, handled) = slow("stuck", Some(Duration::ZERO));
        let spec = spec
            .on(Arbiter::new().handle())
            .shutdown(Duration::from_millis(50));
        let addr = spec.addr();
        let (before, before_addr) = good("before");
        let app = SupervisorSpec::new("app").child(before).child(spec).start();
        let (release, until) = mpsc::channel();
        before_addr.send(Which).await.unwrap();
        let blocked = addr.send(Block(until));
        let waits = addr.send(Note(1));
        while addr.depth().waiting > 1 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        assert!(matches!(
            app.snapshot().find("app/stuck").unwrap().last_exit,
            Some(ExitReason::Killed)
        ));
        assert_eq!(waits.await.unwrap_err().into_message().unwrap().0, 1);
        drop(release);
        blocked.await.unwrap();
        assert_eq!(
            *handled.lock().unwrap(),
            [0],
            "the thread came back, and took nothing more"
        );
    });
}

#[test]
fn a_child_that_is_blocked_in_a_group_restart_is_left_behind_and_its_successor_gets_the_mail() {
    real(async {
        let (stuck, handled) = slow("stuck", Some(Duration::ZERO));
        let system = actix_rt::System::current();
        let stuck = stuck.shutdown(Duration::from_millis(50)).on_each(move || {
            actix_rt::System::set_current(system.clone());
            Arbiter::new().handle()
        });
        let stuck_addr = stuck.addr();
        let (other, other_addr) = good("other");
        let app = SupervisorSpec::new("app")
            .strategy(Strategy::OneForAll)
            .child(stuck)
            .child(other)
            .start();
        other_addr.send(Which).await.unwrap();
        let (release, until) = mpsc::channel();
        let blocked = stuck_addr.send(Block(until));
        let waits = stuck_addr.send(Note(1));
        while stuck_addr.depth().waiting > 1 {
            tokio::task::yield_now().await;
        }
        other_addr.send(Crash).await.unwrap_err();
        waits.await.unwrap();
        assert_eq!(other_addr.send(Which).await.unwrap(), 2);
        assert!(matches!(
            app.snapshot().children[0].last_exit,
            Some(ExitReason::Killed)
        ));
        assert_eq!(
            *handled.lock().unwrap(),
            [1],
            "while the first one is still blocked"
        );
        drop(release);
        blocked.await.unwrap();
        stuck_addr.send(Note(2)).await.unwrap();
        assert_eq!(*handled.lock().unwrap(), [1, 0, 2]);
        assert_eq!(
            app.snapshot().children[0].restarts,
            1,
            "its late end is not taken for another one's"
        );
        app.shutdown().await;
    });
}

#[test]
fn a_supervisor_on_a_blocked_thread_is_killed_with_all_its_children() {
    real(async {
        let arbiter = Arbiter::new();
        let (blocker, _) = slow("blocker", None);
        let blocker_addr = blocker.addr();
        let (child, child_addr) = good("child");
        // The child lives elsewhere: it could go on although its supervisor cannot even be dropped.
        let below = SupervisorSpec::new("below")
            .on(arbiter.handle())
            .shutdown(Duration::from_millis(50))
            .child(child.on(Arbiter::new().handle()))
            .child(blocker);
        let app = SupervisorSpec::new("app").child(below).start();
        child_addr.send(Which).await.unwrap();
        let (release, until) = mpsc::channel();
        let blocked = blocker_addr.send(Block(until));
        while blocker_addr.depth().waiting > 0 {
            tokio::task::yield_now().await;
        }
        app.shutdown().await;
        assert!(child_addr.is_closed() && blocker_addr.is_closed());
        let snapshot = app.snapshot();
        for path in ["app/below", "app/below/child", "app/below/blocker"] {
            let node = snapshot.find(path).unwrap();
            assert!(matches!(node.last_exit, Some(ExitReason::Killed)), "{path}");
        }
        drop(release);
        let _ = blocked.await;
    });
}

#[test]
fn a_root_that_does_not_stop_in_time_is_killed() {
    paused(async {
        let (spec, handled) = slow("slow", None);
        let addr = spec.addr();
        let app = SupervisorSpec::new("app")
            .shutdown(SEC)
            .child(spec.shutdown(60 * SEC))
            .start();
        addr.send(Note(1)).await.unwrap();
        let start = Instant::now();
        assert!(matches!(app.shutdown().await, ExitReason::Killed));
        assert_eq!(start.elapsed(), SEC);
        assert!(addr.is_closed());
        assert_eq!(
            addr.send(Note(2)).await.unwrap_err().kind(),
            SendErrorKind::Closed
        );
    });
}

#[test]
fn the_deadline_of_a_supervisor_leaves_time_for_each_of_its_children() {
    paused(async {
        let ((a, _), (b, _)) = (slow("a", Some(20 * SEC)), slow("b", Some(20 * SEC)));
        let below = SupervisorSpec::new("below")
            .child(a.shutdown(21 * SEC))
            .child(b.shutdown(21 * SEC));
        let app = SupervisorSpec::new("app").child(below).start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        assert_eq!(start.elapsed(), 40 * SEC);
        assert!(matches!(
            app.snapshot().children[0].last_exit,
            Some(ExitReason::Stopped)
        ));
    });
}

#[test]
fn a_stop_reaches_an_actor_whose_context_waits() {
    struct Waits;
    impl Actor for Waits {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.wait(std::future::pending::<()>().into_actor(self));
        }
    }
    paused(async {
        let app = SupervisorSpec::new("app")
            .child(ActorSpec::new("waits", || Waits))
            .start();
        tokio::task::yield_now().await;
        let start = Instant::now();
        app.shutdown().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(matches!(
            app.snapshot().children[0].last_exit,
            Some(ExitReason::Stopped)
        ));
    });
}

#[test]
fn a_stop_before_the_start_prevents_it() {
    paused(async {
        let script = Script::good();
        let spec = script.spec("child");
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").child(spec);
        assert!(matches!(app.handle().shutdown().await, ExitReason::Stopped));
        app.start().wait().await;
        assert_eq!(script.incarnations(), 0);
        assert!(addr.is_closed());
    });
}

#[test]
fn a_stop_right_after_the_start_starts_nobody() {
    paused(async {
        let script = Script::good();
        let app = SupervisorSpec::new("app")
            .child(script.spec("child"))
            .start();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        assert_eq!(script.incarnations(), 0);
    });
}

#[test]
fn a_supervisor_below_stopped_by_its_handle_is_removed_and_not_restarted() {
    paused(async {
        let ((a, addr), (sibling, sibling_addr)) = (good("a"), good("sibling"));
        let below = SupervisorSpec::new("below").child(a);
        let below_handle = below.handle();
        let app = SupervisorSpec::new("app")
            .strategy(Strategy::OneForAll)
            .child(below)
            .child(sibling)
            .start();
        sibling_addr.send(Which).await.unwrap();
        assert!(matches!(below_handle.shutdown().await, ExitReason::Stopped));
        assert!(addr.is_closed());
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 1);
        assert!(app.snapshot().find("app/below").is_none());
        app.shutdown().await;
    });
}

#[test]
fn what_happens_to_others_while_all_stop_changes_neither_the_deadline_nor_the_reason() {
    paused(async {
        let ((first, first_addr), (slow, _)) = (good("first"), slow("slow", None));
        let app = SupervisorSpec::new("app")
            .child(first)
            .child(slow.shutdown(2 * SEC))
            .start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        let meanwhile = async {
            sleep(SEC).await;
            let error = ExitError::permanent("it has to end anyway");
            first_addr.send(Fail(error)).await.unwrap();
            let refused = app.start_child(good("late").0).await.unwrap_err();
            assert_eq!(
                refused,
                StartChildError::SupervisorOver { id: "late".into() }
            );
        };
        let (reason, ()) = tokio::join!(app.shutdown(), meanwhile);
        assert_eq!(start.elapsed(), 2 * SEC);
        assert!(matches!(reason, ExitReason::Stopped), "{reason}");
        assert_eq!(app.snapshot().children[0].restarts, 0);
    });
}

#[test]
fn a_child_that_gets_ready_while_it_stops_keeps_its_deadline() {
    struct ReadyTooLate;
    impl Actor for ReadyTooLate {
        type Context = Context<Self>;
        fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
            ctx.ready();
            Running::Continue
        }
    }
    paused(async {
        let spec = ActorSpec::new("late", || ReadyTooLate)
            .reports_ready()
            .shutdown(2 * SEC);
        let app = SupervisorSpec::new("app").child(spec).start();
        sleep(SEC).await;
        let start = Instant::now();
        app.shutdown().await;
        assert_eq!(start.elapsed(), 2 * SEC);
    });
}

#[test]
fn a_killed_incarnation_whose_thread_comes_back_takes_no_message_before_its_successor() {
    real(async {
        let (stuck, _) = slow("stuck", Some(Duration::ZERO));
        let system = actix_rt::System::current();
        let stuck = stuck.shutdown(Duration::from_millis(50)).on_each(move || {
            actix_rt::System::set_current(system.clone());
            Arbiter::new().handle()
        });
        let stuck_addr = stuck.addr();
        let (other, other_addr) = good("other");
        let pause = Duration::from_millis(300);
        let other = other.backoff(Backoff::exponential(pause, pause).unwrap());
        let app = SupervisorSpec::new("app")
            .strategy(Strategy::OneForAll)
            .child(stuck)
            .child(other)
            .start();
        other_addr.send(Which).await.unwrap();
        let (release, until) = mpsc::channel();
        let blocked = stuck_addr.send(Block(until));
        let waits = stuck_addr.send(Note(1));
        while stuck_addr.depth().waiting > 1 {
            tokio::task::yield_now().await;
        }
        let mut events = Watcher::new(&app);
        other_addr.send(Crash).await.unwrap_err();
        assert!(matches!(
            events.exited("app/stuck").await,
            ExitReason::Killed
        ));
        drop(release);
        blocked.await.unwrap();
        waits.await.unwrap();
        assert_eq!(app.snapshot().children[0].restarts, 1);
        app.shutdown().await;
    });
}

#[test]
fn a_supervisor_that_crashes_takes_its_children_with_it_and_all_live_again() {
    /// Blows up whoever drops it.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("boom in the supervisor");
            }
        }
    }
    real(async {
        // It does not stop when asked: only an abort ends it.
        let (stubborn, handled) = slow("stubborn", None);
        let stubborn = stubborn
            .on(Arbiter::new().handle())
            .shutdown(Duration::from_millis(50));
        let addr = stubborn.addr();
        let bomb = Bomb;
        let carrier = ActorSpec::new("carrier", move || {
            let _ = &bomb;
            Slow {
                takes: Some(Duration::ZERO),
                draining: false,
                handled: Arc::default(),
            }
        });
        let below = SupervisorSpec::new("below")
            .backoff(Backoff::none())
            .child(stubborn)
            .child(carrier);
        let handle = below.handle();
        let app = SupervisorSpec::new("app").child(below).start();
        let mut events = Watcher::new(&app);
        addr.send(Note(1)).await.unwrap();
        let values = Arc::strong_count(&handled);
        let _ = handle.stop_child("carrier").await;
        let reason = events.exited("app/below").await;
        assert!(
            reason.to_string().ends_with("boom in the supervisor"),
            "{reason}"
        );
        addr.send(Note(2)).await.unwrap();
        while Arc::strong_count(&handled) > values {
            tokio::task::yield_now().await;
        }
        assert_eq!(*handled.lock().unwrap(), [1, 2]);
        app.shutdown().await;
    });
}

#[test]
fn a_child_killed_before_its_arbiter_came_to_it_never_starts() {
    real(async {
        let (busy, stuck) = (Arbiter::new(), Arbiter::new());
        let block = |arbiter: &Arbiter| {
            let (release, until) = mpsc::channel::<()>();
            arbiter.spawn_fn(move || {
                let _ = until.recv();
            });
            release
        };
        let release_busy = block(&busy);
        let script = Script::good();
        let below = SupervisorSpec::new("below")
            .on(stuck.handle())
            .shutdown(Duration::from_millis(50))
            .child(script.spec("child").on(busy.handle()));
        let app = SupervisorSpec::new("app").child(below).start();
        while app.snapshot().find("app/below/child").unwrap().state != State::Starting {
            tokio::task::yield_now().await;
        }
        // Its supervisor cannot ask it to stop: it is killed over that one's head.
        let release_stuck = block(&stuck);
        app.shutdown().await;
        drop(release_busy);
        let (passed, pass) = tokio::sync::oneshot::channel();
        busy.spawn(async move {
            // Whatever was started here before has had its turn then.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let _ = passed.send(());
        });
        pass.await.unwrap();
        assert_eq!(script.incarnations(), 0);
        drop(release_stuck);
    });
}

#[test]
fn an_actor_dropped_with_its_system_handles_no_message_on_the_way() {
    let system = actix_rt::System::new();
    // It goes on when it is asked to stop, and so it would in its drop.
    let (spec, handled) = slow("slow", None);
    let addr = spec.addr();
    let app = system.block_on(async {
        let app = SupervisorSpec::new("app").child(spec).start();
        addr.send(Note(1)).await.unwrap();
        app
    });
    addr.try_post(Note(2)).unwrap();
    drop(system);
    assert_eq!(*handled.lock().unwrap(), [1]);
    assert_eq!(app.snapshot().state, State::Failed);
    assert!(addr.is_closed());
}
