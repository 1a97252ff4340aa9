//! Stopping: in reverse start order, each child with its own deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use actix::prelude::*;
use fluffle_supervise::{
    ActorSpec, ExitError, ExitReason, StartChildError, State, Strategy, SupervisedContext, SupervisorSpec,
};
use support::{Fail, Note, Script, Watcher, Which, good, paused, slow};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

#[test]
fn children_stop_one_after_the_other_in_reverse_down_to_the_root() {
    paused(async {
        let ((a, _), (b, _), (c, _), (d, _)) = (good("a"), good("b"), good("c"), good("d"));
        let below = SupervisorSpec::new("below").child(b).child(c);
        let app = SupervisorSpec::new("app").child(a).child(below).child(d).start();
        Watcher::new(&app).ready("app").await;
        let events = Watcher::new(&app);
        let handle = app.clone();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        let seen = events.rest().await;
        let ended: Vec<_> = seen.iter().filter(|event| !event.ends_with("over for good")).collect();
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
        assert_eq!(seen.len(), expected.len() + 6, "each of the six is over, once");
        assert!(matches!(handle.wait().await, ExitReason::Stopped));
        assert!(matches!(handle.shutdown().await, ExitReason::Stopped), "again is no error");
    });
}

#[test]
fn an_actor_that_goes_on_when_asked_to_stop_may_finish_what_waits() {
    paused(async {
        let (spec, handled) = slow("slow", Some(3 * SEC));
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").child(spec.shutdown(4 * SEC)).start();
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
        assert!(matches!(app.snapshot().children[0].last_exit, Some(ExitReason::Stopped)));
    });
}

#[test]
fn each_child_has_its_own_deadline_and_is_killed_after_it() {
    paused(async {
        let ((a, _), (b, _), (c, _)) = (slow("a", None), slow("b", Some(SEC)), slow("c", None));
        let app =
            SupervisorSpec::new("app").child(a.shutdown(2 * SEC)).child(b.shutdown(9 * SEC)).child(c.shutdown(4 * SEC));
        let app = app.start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped), "the supervisor itself stopped in time");
        assert_eq!(start.elapsed(), 7 * SEC, "two deadlines and one that stopped by itself");
        let ends: Vec<_> =
            app.snapshot().children.iter().map(|child| child.last_exit.clone().unwrap().to_string()).collect();
        assert_eq!(
            ends,
            [
                "killed: it did not stop by its deadline",
                "stopped on request",
                "killed: it did not stop by its deadline"
            ]
        );
        let states: Vec<_> = app.snapshot().children.iter().map(|child| child.state).collect();
        assert_eq!(states, [State::Failed, State::Stopped, State::Failed]);
    });
}

#[test]
fn the_deadline_of_a_supervisor_leaves_time_for_each_of_its_children() {
    paused(async {
        let ((a, _), (b, _)) = (slow("a", Some(20 * SEC)), slow("b", Some(20 * SEC)));
        let below = SupervisorSpec::new("below").child(a.shutdown(21 * SEC)).child(b.shutdown(21 * SEC));
        let app = SupervisorSpec::new("app").child(below).start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        assert!(matches!(app.shutdown().await, ExitReason::Stopped));
        assert_eq!(start.elapsed(), 40 * SEC);
        assert!(matches!(app.snapshot().children[0].last_exit, Some(ExitReason::Stopped)));
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
        let app = SupervisorSpec::new("app").child(ActorSpec::new("waits", || Waits)).start();
        tokio::task::yield_now().await;
        let start = Instant::now();
        app.shutdown().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(matches!(app.snapshot().children[0].last_exit, Some(ExitReason::Stopped)));
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
        let app = SupervisorSpec::new("app").child(script.spec("child")).start();
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
        let app = SupervisorSpec::new("app").strategy(Strategy::OneForAll).child(below).child(sibling).start();
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
        let app = SupervisorSpec::new("app").child(first).child(slow.shutdown(2 * SEC)).start();
        Watcher::new(&app).ready("app").await;
        let start = Instant::now();
        let meanwhile = async {
            sleep(SEC).await;
            let error = ExitError::permanent("it has to end anyway");
            first_addr.send(Fail(error)).await.unwrap();
            let refused = app.start_child(good("late").0).await.unwrap_err();
            assert_eq!(refused, StartChildError::SupervisorOver { id: "late".into() });
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
            ctx.run_later(SEC, |_, ctx| ctx.ready());
            Running::Continue
        }
    }
    paused(async {
        let spec = ActorSpec::new("late", || ReadyTooLate).reports_ready().shutdown(2 * SEC);
        let app = SupervisorSpec::new("app").child(spec).start();
        sleep(SEC).await;
        let start = Instant::now();
        app.shutdown().await;
        assert_eq!(start.elapsed(), 2 * SEC);
    });
}
