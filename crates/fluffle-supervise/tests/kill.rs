//! Killing: a child that does not stop in time is abandoned even if its thread is blocked, and its messages are not
//! lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use actix_rt::Arbiter;
use fluffle_supervise::{ActorSpec, Backoff, ExitReason, SendErrorKind, State, Strategy, SupervisorSpec};
use support::{Block, Crash, Note, Script, Slow, Watcher, Which, good, paused, real, slow};
use tokio::time::Instant;

const SEC: Duration = Duration::from_secs(1);

#[test]
fn a_blocked_thread_does_not_hold_up_the_stop_nor_keep_the_messages() {
    real(async {
        let (spec, handled) = slow("stuck", Some(Duration::ZERO));
        let spec = spec.on(Arbiter::new().handle()).shutdown(Duration::from_millis(50));
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
        assert!(matches!(app.snapshot().find("app/stuck").unwrap().last_exit, Some(ExitReason::Killed)));
        assert_eq!(waits.await.unwrap_err().into_message().unwrap().0, 1);
        drop(release);
        blocked.await.unwrap();
        assert_eq!(*handled.lock().unwrap(), [0], "the thread came back, and took nothing more");
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
        let app = SupervisorSpec::new("app").strategy(Strategy::OneForAll).child(stuck).child(other).start();
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
        assert!(matches!(app.snapshot().children[0].last_exit, Some(ExitReason::Killed)));
        assert_eq!(*handled.lock().unwrap(), [1], "while the first one is still blocked");
        drop(release);
        blocked.await.unwrap();
        stuck_addr.send(Note(2)).await.unwrap();
        assert_eq!(*handled.lock().unwrap(), [1, 0, 2]);
        assert_eq!(app.snapshot().children[0].restarts, 1, "its late end is not taken for another one's");
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
        // The child is on another arbiter: it could go on although its supervisor cannot even be dropped.
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
        let app = SupervisorSpec::new("app").shutdown(SEC).child(spec.shutdown(60 * SEC)).start();
        addr.send(Note(1)).await.unwrap();
        let start = Instant::now();
        assert!(matches!(app.shutdown().await, ExitReason::Killed));
        assert_eq!(start.elapsed(), SEC);
        assert!(addr.is_closed());
        let refused = addr.send(Note(2)).await.unwrap_err();
        assert_eq!(refused.kind(), SendErrorKind::Closed);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&handled), 1, "its value and its factory are gone");
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
        let app = SupervisorSpec::new("app").strategy(Strategy::OneForAll).child(stuck).child(other).start();
        other_addr.send(Which).await.unwrap();
        let (release, until) = mpsc::channel();
        let blocked = stuck_addr.send(Block(until));
        let waits = stuck_addr.send(Note(1));
        while stuck_addr.depth().waiting > 1 {
            tokio::task::yield_now().await;
        }
        let mut events = Watcher::new(&app);
        other_addr.send(Crash).await.unwrap_err();
        assert!(matches!(events.exited("app/stuck").await, ExitReason::Killed));
        drop(release);
        blocked.await.unwrap();
        waits.await.unwrap();
        assert_eq!(app.snapshot().children[0].restarts, 1);
        app.shutdown().await;
    });
}

#[test]
fn a_supervisor_that_crashes_takes_its_children_with_it_and_all_live_again() {
    /// Panics when it is dropped.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("boom in the supervisor");
            }
        }
    }
    real(async {
        // This child does not stop when asked: only an abort ends it.
        let (stubborn, handled) = slow("stubborn", None);
        let stubborn = stubborn.on(Arbiter::new().handle()).shutdown(Duration::from_millis(50));
        let addr = stubborn.addr();
        let bomb = Bomb;
        let carrier = ActorSpec::new("carrier", move || {
            let _ = &bomb;
            Slow { takes: Some(Duration::ZERO), draining: false, handled: Arc::default() }
        });
        let below = SupervisorSpec::new("below").backoff(Backoff::none()).child(stubborn).child(carrier);
        let handle = below.handle();
        let app = SupervisorSpec::new("app").child(below).start();
        let mut events = Watcher::new(&app);
        addr.send(Note(1)).await.unwrap();
        let values = Arc::strong_count(&handled);
        let _ = handle.stop_child("carrier").await;
        let reason = events.exited("app/below").await;
        assert!(reason.to_string().ends_with("boom in the supervisor"), "{reason}");
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
        // The child's supervisor is blocked and cannot ask it to stop, so the supervisor above kills both.
        let release_stuck = block(&stuck);
        app.shutdown().await;
        drop(release_busy);
        let (passed, pass) = tokio::sync::oneshot::channel();
        busy.spawn(async move {
            // After these turns, everything that was started here before has run.
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
fn an_actor_dropped_with_its_thread_handles_no_message_on_the_way() {
    let system = actix_rt::System::new();
    // This actor goes on when it is asked to stop, so it would also go on while it is dropped.
    let (spec, handled) = slow("slow", None);
    let addr = spec.addr();
    let elsewhere = system.block_on(async {
        let elsewhere = Arbiter::new();
        let spec = spec.on(Arbiter::current());
        SupervisorSpec::new("app").child(spec).start_on(&elsewhere.handle());
        addr.send(Note(1)).await.unwrap();
        elsewhere
    });
    addr.try_post(Note(2)).unwrap();
    drop(system);
    assert_eq!(*handled.lock().unwrap(), [1]);
    elsewhere.stop();
    elsewhere.join().unwrap();
    assert!(addr.is_closed());
}

#[test]
fn an_actor_that_a_handle_kills_ends_as_a_failure_and_is_started_again() {
    paused(async {
        let ((a, _), (b, _)) = (good("a"), good("b"));
        let app = SupervisorSpec::new("app").child(SupervisorSpec::new("below").child(a)).child(b).start();
        Watcher::new(&app).ready("app").await;
        assert!(!app.kill("app/nobody"), "nothing has this path");
        assert!(!app.kill("app/below"), "a supervisor");
        let mut events = Watcher::new(&app);
        assert!(app.kill("app/below/a"));
        events.ready("app/below/a").await;
        let snapshot = app.snapshot();
        let a = snapshot.find("app/below/a").unwrap();
        assert_eq!(a.restarts, 1);
        assert!(a.last_exit.as_ref().unwrap().to_string().contains("killed on request"), "{a:?}");
        assert_eq!(snapshot.find("app/b").unwrap().restarts, 0);
        app.shutdown().await;
        assert!(!app.kill("app/below/a"), "it does not run any more");
    });
}
