//! Which children are stopped and started together, in which order, and when a supervisor gives up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{error::Error, time::Duration};

use fluffle_supervise::{
    Backoff, ExitError, ExitReason, GivingUp, Intensity, Restart, State, Strategy, SupervisorSpec,
};
use support::{Crash, Fail, Finish, Script, Watcher, Which, good, paused};
use tokio::time::Instant;

const SEC: Duration = Duration::from_secs(1);
const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll];

fn wait(seconds: u32) -> Backoff {
    Backoff::exponential(seconds * SEC, seconds * SEC).unwrap()
}

/// The events, as `path: what`, from a crash of `b` among `a`, `b`, `c`, `d` until all are ready again.
async fn crash_of_b(strategy: Strategy) -> Vec<String> {
    let ((a, _), (b, b_addr), (c, _), (d, _)) = (good("a"), good("b"), good("c"), good("d"));
    let app =
        SupervisorSpec::new("app").strategy(strategy).child(a).child(b.backoff(wait(5))).child(c).child(d).start();
    let mut ready = Watcher::new(&app);
    ready.ready("app").await;
    let mut events = app.events();
    let start = Instant::now();
    b_addr.send(Crash).await.unwrap_err();
    assert_eq!(b_addr.send(Which).await.unwrap(), 2);
    let everyone_waits_for_the_backoff_of_the_one_that_failed = start.elapsed();
    assert_eq!(everyone_waits_for_the_backoff_of_the_one_that_failed, 5 * SEC);
    while app.snapshot().children.iter().any(|child| child.state != State::Running) {
        tokio::task::yield_now().await;
    }
    app.shutdown().await;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event.unwrap().to_string());
    }
    let end = seen.iter().position(|event| event == "app: asked to stop").unwrap();
    seen.truncate(end);
    seen
}

fn down(id: &str) -> [String; 2] {
    [format!("app/{id}: asked to stop"), format!("app/{id}: stopped on request")]
}

fn up(id: &str) -> [String; 3] {
    [format!("app/{id}: restarting"), format!("app/{id}: started (incarnation 2)"), format!("app/{id}: ready")]
}

fn crash() -> [String; 2] {
    ["app/b: panicked in a handler: crashed as asked".into(), "app/b: waits 5s before restart 1 in a row".into()]
}

#[test]
fn one_for_one_restarts_the_failed_child_alone() {
    let seen = paused(crash_of_b(Strategy::OneForOne));
    assert_eq!(seen, [&crash()[..], &up("b")].concat());
}

#[test]
fn rest_for_one_stops_those_after_it_in_reverse_and_starts_them_again_in_order() {
    let seen = paused(crash_of_b(Strategy::RestForOne));
    let expected = [&crash()[..], &down("d"), &down("c"), &up("b"), &up("c"), &up("d")].concat();
    assert_eq!(seen, expected);
}

#[test]
fn one_for_all_stops_all_in_reverse_and_starts_them_again_in_order() {
    let seen = paused(crash_of_b(Strategy::OneForAll));
    let expected = [&crash()[..], &down("d"), &down("c"), &down("a"), &up("a"), &up("b"), &up("c"), &up("d")].concat();
    assert_eq!(seen, expected);
}

#[test]
fn nobody_of_one_for_all_starts_before_the_backoff_of_the_one_that_failed_is_over() {
    paused(async {
        let ((a, a_addr), (b, b_addr)) = (good("a"), good("b"));
        let app = SupervisorSpec::new("app").strategy(Strategy::OneForAll).child(a).child(b.backoff(wait(5))).start();
        b_addr.send(Which).await.unwrap();
        let start = Instant::now();
        b_addr.send(Crash).await.unwrap_err();
        tokio::time::sleep(SEC).await;
        assert_eq!(a_addr.send(Which).await.unwrap(), 2);
        assert_eq!(start.elapsed(), 5 * SEC);
        app.shutdown().await;
    });
}

#[test]
fn a_child_starts_only_when_those_before_it_are_ready() {
    for strategy in STRATEGIES {
        paused(async move {
            let (first, first_addr) = good("first");
            let ((second, _), script) = (good("second"), Script::good());
            let third = script.spec("third");
            let app =
                SupervisorSpec::new("app").strategy(strategy).child(first).child(second.reports_ready()).child(third);
            let app = app.start();
            first_addr.send(Which).await.unwrap();
            // Leave time for whatever could still happen.
            tokio::time::sleep(SEC).await;
            let states: Vec<_> = app.snapshot().children.iter().map(|child| child.state).collect();
            assert_eq!(states, [State::Running, State::Starting, State::Waiting]);
            assert_eq!((app.snapshot().state, script.incarnations()), (State::Starting, 0));
            app.shutdown().await;
        });
    }
}

#[test]
fn a_child_that_says_it_is_ready_lets_the_next_one_start() {
    use actix::prelude::*;
    use fluffle_supervise::{ActorSpec, SupervisedContext};
    struct Late;
    impl Actor for Late {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.run_later(SEC, |_, ctx| {
                ctx.ready();
                ctx.ready();
            });
        }
    }
    paused(async {
        let late = ActorSpec::new("late", || Late).reports_ready();
        let (next, addr) = good("next");
        let start = Instant::now();
        let app = SupervisorSpec::new("app").child(late).child(next).start();
        addr.send(Which).await.unwrap();
        assert_eq!(start.elapsed(), SEC);
        assert_eq!(app.snapshot().state, State::Running);
        app.shutdown().await;
    });
}

#[test]
fn a_second_failure_in_the_middle_of_a_restart_is_taken_in() {
    paused(async {
        // While `b` is stopped for the failure of `c`, and `c` backs off, `a` fails too.
        let ((a, a_addr), (b, b_addr), (c, c_addr)) = (good("a"), good("b"), good("c"));
        let app =
            SupervisorSpec::new("app").strategy(Strategy::RestForOne).child(a).child(b).child(c.backoff(wait(10)));
        let app = app.start();
        c_addr.send(Crash).await.unwrap_err();
        a_addr.send(Crash).await.unwrap_err();
        let start = Instant::now();
        let incarnations =
            (a_addr.send(Which).await.unwrap(), b_addr.send(Which).await.unwrap(), c_addr.send(Which).await.unwrap());
        assert_eq!(incarnations, (2, 2, 2));
        assert_eq!(start.elapsed(), 10 * SEC, "the backoff of the first failure is still kept");
        app.shutdown().await;
    });
}

#[test]
fn a_group_restart_leaves_alone_who_is_over_and_ends_who_is_temporary() {
    paused(async {
        let ((a, a_addr), (done, done_addr), (once, once_addr)) = (good("a"), good("done"), good("once"));
        let app = SupervisorSpec::new("app")
            .strategy(Strategy::OneForAll)
            .child(a)
            .child(done.restart(Restart::Transient))
            .child(once.restart(Restart::Temporary))
            .start();
        once_addr.send(Which).await.unwrap();
        done_addr.send(Finish).await.unwrap();
        a_addr.send(Crash).await.unwrap_err();
        assert_eq!(a_addr.send(Which).await.unwrap(), 2);
        assert!(done_addr.is_closed());
        assert!(once_addr.is_closed(), "it was stopped for the sibling, and is not started again");
        let states: Vec<_> = app.snapshot().children.iter().map(|child| child.state).collect();
        assert_eq!(states, [State::Running, State::Stopped, State::Stopped]);
        app.shutdown().await;
    });
}

#[test]
fn one_restart_too_many_ends_the_supervisor_with_the_last_reason() {
    for strategy in STRATEGIES {
        paused(async move {
            let ((a, addr), (b, _)) = (good("a"), good("b"));
            let intensity = Intensity::new(2, 10 * SEC).unwrap();
            let app = SupervisorSpec::new("app").strategy(strategy).intensity(intensity).child(a).child(b).start();
            for _ in 0..2 {
                addr.send(Crash).await.unwrap_err();
            }
            assert_eq!(addr.send(Which).await.unwrap(), 3);
            addr.send(Fail(std::io::Error::other("enough").into())).await.unwrap();
            let reason = app.wait().await;
            let ExitReason::Escalated(escalation) = &reason else { panic!("{reason}") };
            let cause = GivingUp::TooManyRestarts { restarts: 2, within: 10 * SEC };
            assert_eq!((escalation.path(), escalation.cause()), ("app/a", cause));
            assert_eq!(reason.to_string(), "gave up: app/a was restarted 2 times in 10s; last: failed: enough");
            assert!(!reason.is_permanent());
        });
    }
}

#[test]
fn restarts_that_are_far_enough_apart_go_on_for_ever() {
    paused(async {
        let (a, addr) = good("a");
        let intensity = Intensity::new(1, SEC).unwrap();
        let app = SupervisorSpec::new("app").intensity(intensity).child(a).start();
        for _ in 0..50 {
            addr.send(Crash).await.unwrap_err();
            tokio::time::sleep(SEC).await;
        }
        assert_eq!(addr.send(Which).await.unwrap(), 51);
        app.shutdown().await;
    });
}

#[test]
fn an_escalation_restarts_the_supervisor_below_with_its_own_backoff_and_the_budget_above() {
    paused(async {
        let (a, addr) = good("a");
        let (sibling, sibling_addr) = good("sibling");
        let below = SupervisorSpec::new("below").intensity(Intensity::new(0, SEC).unwrap()).backoff(wait(3)).child(a);
        let app =
            SupervisorSpec::new("app").intensity(Intensity::new(1, 60 * SEC).unwrap()).child(below).child(sibling);
        let mut events = Watcher::new(&app.handle());
        let app = app.start();

        events.ready("app").await;
        let start = Instant::now();
        addr.send(Crash).await.unwrap_err();
        let reason = events.exited("app/below").await;
        assert_eq!(
            reason.to_string(),
            "gave up: app/below/a ended, and its supervisor allows no restart: panicked in a handler: crashed as asked"
        );
        assert_eq!(addr.send(Which).await.unwrap(), 2);
        assert_eq!(start.elapsed(), 3 * SEC);
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 1);

        addr.send(Crash).await.unwrap_err();
        assert_eq!(
            app.wait().await.to_string(),
            "gave up: app/below was restarted once in 60s; last: gave up: app/below/a ended, and its \
             supervisor allows no restart: panicked in a handler: crashed as asked"
        );
    });
}

#[test]
fn a_permanent_error_two_levels_down_ends_the_tree_and_names_its_root_cause() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot log in as {user}")]
    struct Login {
        user: &'static str,
        source: std::io::Error,
    }
    paused(async {
        let ((socket, addr), (publish, publish_addr)) = (good("socket"), good("publish"));
        let consume = SupervisorSpec::new("consume").intensity(Intensity::unlimited()).child(socket);
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(consume).child(publish).start();
        publish_addr.send(Which).await.unwrap();
        let refused = std::io::Error::other("403 ACCESS_REFUSED");
        let error = ExitError::permanent(Login { user: "guest", source: refused });
        addr.send(Fail(error)).await.unwrap();
        let reason = app.wait().await;
        assert_eq!(
            reason.to_string(),
            "gave up: app/consume/socket failed permanently: cannot log in as guest: 403 ACCESS_REFUSED"
        );
        assert!(reason.is_permanent());
        assert!(reason.error().is_some_and(|error| error.is::<Login>()));
        assert!(reason.root_error().is_some_and(<dyn Error>::is::<std::io::Error>));
        assert!(publish_addr.is_closed());
        let states: Vec<_> = app.snapshot().children.iter().map(|child| child.state).collect();
        assert_eq!((app.snapshot().state, states), (State::Failed, vec![State::Failed, State::Stopped]));
    });
}

#[test]
fn a_temporary_supervisor_that_gives_up_just_ends() {
    paused(async {
        let ((a, addr), (sibling, sibling_addr)) = (good("a"), good("sibling"));
        let below = SupervisorSpec::new("below").restart(Restart::Temporary).child(a);
        let below_handle = below.handle();
        let app = SupervisorSpec::new("app").child(below).child(sibling).start();
        addr.send(Fail(ExitError::permanent("never"))).await.unwrap();
        assert!(below_handle.wait().await.is_permanent());
        assert!(addr.is_closed());
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 1);
        app.shutdown().await;
    });
}

#[test]
fn two_children_of_one_name_are_a_permanent_error() {
    paused(async {
        let ((a, _), (b, b_addr)) = (good("twin"), good("twin"));
        let reason = SupervisorSpec::new("app").child(a).child(b).start().wait().await;
        assert!(reason.is_permanent());
        assert!(reason.to_string().contains("twin"), "{reason}");
        assert!(b_addr.is_closed());
    });
}

#[test]
fn a_supervisor_without_children_is_ready_and_stays() {
    paused(async {
        let app = SupervisorSpec::new("app");
        let mut events = Watcher::new(&app.handle());
        let app = app.start();
        events.ready("app").await;
        tokio::time::sleep(SEC).await;
        assert_eq!(app.snapshot().state, State::Running);
        app.shutdown().await;
    });
}

#[test]
fn a_crash_loop_at_the_start_ends_in_an_escalation_and_holds_back_those_after_it() {
    paused(async {
        let (next, next_addr) = good("next");
        let factory = || -> support::Probe { panic!("no such luck") };
        let broken = fluffle_supervise::ActorSpec::new("broken", factory);
        let reason = SupervisorSpec::new("app").child(broken).child(next).start().wait().await;
        assert_eq!(
            reason.to_string(),
            "gave up: app/broken was restarted 3 times in 5s; last: panicked in its factory: no such luck"
        );
        assert!(next_addr.is_closed());
    });
}
