//! Children that are added to a running supervisor or removed from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use fluffle_supervise::{
    Backoff, ExitReason, Intensity, Restart, StartChildError, State, StopChildError, Strategy, SupervisorSpec,
};
use support::{Crash, Finish, Watcher, Which, good, paused};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

#[test]
fn a_child_added_later_is_started_stopped_and_may_come_again() {
    paused(async {
        let app = SupervisorSpec::new("app").start();
        for _ in 0..2 {
            let (child, addr) = good("child");
            app.start_child(child).await.unwrap();
            assert_eq!(addr.send(Which).await.unwrap(), 1);
            assert_eq!(app.snapshot().find("app/child").unwrap().state, State::Running);
            app.stop_child("child").await.unwrap();
            assert!(addr.is_closed());
            assert!(app.snapshot().find("app/child").is_none());
        }
        app.shutdown().await;
    });
}

#[test]
fn names_are_taken_until_their_child_is_stopped() {
    paused(async {
        let (child, addr) = good("child");
        let app = SupervisorSpec::new("app").child(child).start();
        let (twin, twin_addr) = good("child");
        let refused = app.start_child(twin).await.unwrap_err();
        assert_eq!(refused, StartChildError::Duplicate { id: "child".into() });
        assert!(twin_addr.is_closed());
        assert_eq!(addr.send(Which).await.unwrap(), 1);
        let unknown = app.stop_child("nobody").await.unwrap_err();
        assert_eq!(unknown, StopChildError::Unknown { id: "nobody".into() });
        app.stop_child("child").await.unwrap();
        assert!(app.stop_child("child").await.is_err());
        app.shutdown().await;
    });
}

#[test]
fn a_child_added_before_the_start_or_during_a_backoff_waits_for_its_supervisor() {
    paused(async {
        let (broken, broken_addr) = good("broken");
        let below = SupervisorSpec::new("below")
            .intensity(Intensity::new(0, SEC).unwrap())
            .backoff(Backoff::exponential(5 * SEC, 5 * SEC).unwrap())
            .child(broken);
        let handle = below.handle();
        let (early, early_addr) = good("early");
        let order = tokio::task::spawn_local({
            let handle = handle.clone();
            async move { handle.start_child(early).await }
        });
        tokio::task::yield_now().await;
        let app = SupervisorSpec::new("app").child(below).start();
        order.await.unwrap().unwrap();
        assert_eq!(early_addr.send(Which).await.unwrap(), 1);

        broken_addr.send(Crash).await.unwrap_err();
        let (late, late_addr) = good("late");
        let start = Instant::now();
        handle.start_child(late).await.unwrap();
        assert_eq!(start.elapsed(), 5 * SEC);
        assert_eq!(late_addr.send(Which).await.unwrap(), 1);
        assert_eq!(early_addr.send(Which).await.unwrap(), 2, "it survived the restart of its supervisor");
        app.shutdown().await;
    });
}

#[test]
fn a_child_added_to_independent_ones_does_not_wait_for_them() {
    for (strategy, state) in [
        (Strategy::OneForOne, State::Running),
        (Strategy::RestForOne, State::Waiting),
        (Strategy::OneForAll, State::Waiting),
    ] {
        paused(async move {
            let ((late, _), (added, _)) = (good("late"), good("added"));
            let app = SupervisorSpec::new("app").strategy(strategy).child(late.reports_ready()).start();
            app.start_child(added).await.unwrap();
            sleep(SEC).await;
            assert_eq!(app.snapshot().find("app/added").unwrap().state, state, "{strategy}");
            app.shutdown().await;
        });
    }
}

#[test]
fn added_children_that_end_for_good_leave_nothing_behind() {
    paused(async {
        let app = SupervisorSpec::new("app").start();
        for n in 0..50 {
            let (child, addr) = good(&format!("job-{n}"));
            app.start_child(child.restart(Restart::Temporary)).await.unwrap();
            addr.send(Finish).await.unwrap();
        }
        sleep(SEC).await;
        assert!(app.snapshot().children.is_empty());
        app.shutdown().await;
    });
}

#[test]
fn a_whole_tree_may_be_added_and_its_paths_are_complete() {
    paused(async {
        let app = SupervisorSpec::new("app").start();
        let mut events = Watcher::new(&app);
        let (leaf, addr) = good("leaf");
        let inner = SupervisorSpec::new("inner").child(leaf);
        let handle = inner.handle();
        app.start_child(SupervisorSpec::new("outer").child(inner)).await.unwrap();
        assert_eq!(addr.send(Which).await.unwrap(), 1);
        events.ready("app/outer/inner/leaf").await;
        assert_eq!(&*handle.snapshot().path, "app/outer/inner");
        app.stop_child("outer").await.unwrap();
        assert!(matches!(handle.wait().await, ExitReason::Stopped));
        app.shutdown().await;
    });
}

#[test]
fn stopping_a_child_that_backs_off_or_waits_is_immediate() {
    paused(async {
        let ((backs_off, addr), (late, _), (waits, waits_addr)) = (good("backs-off"), good("late"), good("waits"));
        let backoff = Backoff::exponential(60 * SEC, 60 * SEC).unwrap();
        let app = SupervisorSpec::new("app").child(backs_off.backoff(backoff)).child(late.reports_ready()).child(waits);
        let app = app.start();
        addr.send(Crash).await.unwrap_err();
        let start = Instant::now();
        app.stop_child("backs-off").await.unwrap();
        app.stop_child("waits").await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(addr.is_closed() && waits_addr.is_closed());
        app.shutdown().await;
    });
}

#[test]
fn orders_to_a_supervisor_that_is_over_say_so() {
    paused(async {
        let app = SupervisorSpec::new("app").start();
        app.shutdown().await;
        let (child, addr) = good("child");
        let refused = app.start_child(child).await.unwrap_err();
        assert_eq!(refused, StartChildError::SupervisorOver { id: "child".into() });
        assert!(addr.is_closed());
        let refused = app.stop_child("child").await.unwrap_err();
        assert_eq!(refused, StopChildError::SupervisorOver { id: "child".into() });
    });
}

#[test]
fn a_child_may_be_stopped_while_its_supervisor_stops() {
    paused(async {
        let ((a, addr), (b, _)) = (good("a"), good("b"));
        let app = SupervisorSpec::new("app").child(a).child(b).start();
        addr.send(Which).await.unwrap();
        let (reason, _) = tokio::join!(app.shutdown(), app.stop_child("a"));
        assert!(matches!(reason, ExitReason::Stopped));
        assert!(addr.is_closed());
    });
}

#[test]
fn a_child_that_is_over_is_not_brought_back_by_a_restart_of_its_supervisor() {
    paused(async {
        let ((once, once_addr), (other, other_addr)) = (good("once"), good("other"));
        let below = SupervisorSpec::new("below")
            .intensity(Intensity::new(0, SEC).unwrap())
            .backoff(Backoff::none())
            .child(once.restart(Restart::Transient))
            .child(other);
        let app = SupervisorSpec::new("app").child(below).start();
        other_addr.send(Which).await.unwrap();
        once_addr.send(Finish).await.unwrap();
        other_addr.send(Crash).await.unwrap_err();
        assert_eq!(other_addr.send(Which).await.unwrap(), 2);
        let node = app.snapshot().find("app/below/once").unwrap().clone();
        assert_eq!((node.state, node.restarts), (State::Stopped, 0));
        app.shutdown().await;
    });
}
