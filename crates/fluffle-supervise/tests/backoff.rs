//! How long a child waits before its restart, tested on a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use fluffle_supervise::{Backoff, Intensity, State, SupervisorSpec, What};
use support::{Crash, Watcher, Which, good, paused};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

/// The delay and the attempt of the next backoff.
async fn next_backoff(events: &mut Watcher) -> (Duration, u32) {
    events
        .until(|event| match event.what {
            What::Backoff { delay, attempt } => Some((delay, attempt)),
            _ => None,
        })
        .await
}

#[test]
fn delays_are_drawn_below_a_ceiling_that_doubles_up_to_max() {
    paused(async {
        let (spec, addr) = good("child");
        let spec = spec.backoff(Backoff::exponential(SEC, 10 * SEC).unwrap().seed(1));
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(spec).start();
        let mut events = Watcher::new(&app);
        for (restart, ceiling) in [1, 2, 4, 8, 10, 10, 10].into_iter().enumerate() {
            let start = Instant::now();
            addr.send(Crash).await.unwrap_err();
            let (delay, attempt) = next_backoff(&mut events).await;
            assert_eq!(attempt as usize, restart + 1);
            assert!(delay >= SEC && delay <= ceiling * SEC, "{delay:?} for a ceiling of {ceiling} s");
            addr.send(Which).await.unwrap();
            let took = start.elapsed();
            // tokio's clock has a resolution of one millisecond.
            assert!(took >= delay && took <= delay + Duration::from_millis(2), "{took:?} for {delay:?}");
        }
        app.shutdown().await;
    });
}

#[test]
fn the_count_starts_over_after_a_healthy_spell_and_not_before() {
    paused(async {
        let (spec, addr) = good("child");
        let backoff = Backoff::exponential(SEC, 60 * SEC).unwrap().reset_after(10 * SEC);
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(spec.backoff(backoff)).start();
        let mut events = Watcher::new(&app);
        let mut attempts = Vec::new();
        for healthy in [0, 9, 10, 0] {
            addr.send(Which).await.unwrap();
            sleep(healthy * SEC).await;
            addr.send(Crash).await.unwrap_err();
            attempts.push(next_backoff(&mut events).await.1);
        }
        assert_eq!(attempts, [1, 2, 1, 2]);
        app.shutdown().await;
    });
}

#[test]
fn a_child_that_never_got_ready_was_never_healthy() {
    paused(async {
        let (spec, addr) = good("child");
        let backoff = Backoff::exponential(SEC, 60 * SEC).unwrap().reset_after(5 * SEC);
        let spec = spec.backoff(backoff).reports_ready();
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(spec).start();
        let mut events = Watcher::new(&app);
        for attempt in 1..4 {
            addr.send(Which).await.unwrap();
            sleep(60 * SEC).await;
            addr.send(Crash).await.unwrap_err();
            assert_eq!(next_backoff(&mut events).await.1, attempt);
        }
        app.shutdown().await;
    });
}

#[test]
fn the_snapshot_tells_when_the_next_restart_is_due() {
    paused(async {
        let (spec, addr) = good("child");
        let app =
            SupervisorSpec::new("app").child(spec.backoff(Backoff::exponential(7 * SEC, 7 * SEC).unwrap())).start();
        let mut events = Watcher::new(&app);
        addr.send(Crash).await.unwrap_err();
        next_backoff(&mut events).await;
        let node = app.snapshot().find("app/child").unwrap().clone();
        assert_eq!(node.state, State::BackingOff);
        assert_eq!(node.next_restart_at.unwrap() - node.since, 7 * SEC);
        assert_eq!(addr.send(Which).await.unwrap(), 2);
        assert_eq!(app.snapshot().find("app/child").unwrap().next_restart_at, None);
        app.shutdown().await;
    });
}

#[test]
fn a_wait_too_long_to_be_told_does_not_stop_the_others() {
    paused(async {
        let ((spec, addr), (sibling, sibling_addr)) = (good("child"), good("sibling"));
        let forever = Backoff::exponential(Duration::MAX, Duration::MAX).unwrap();
        let app = SupervisorSpec::new("app").child(spec.backoff(forever)).child(sibling).start();
        sibling_addr.send(Which).await.unwrap();
        addr.send(Crash).await.unwrap_err();
        sibling_addr.send(Crash).await.unwrap_err();
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 2);
        assert_eq!(app.snapshot().children[0].state, State::BackingOff);
        app.shutdown().await;
    });
}

#[test]
fn a_stop_does_not_wait_for_a_backoff() {
    paused(async {
        let (spec, addr) = good("child");
        let app =
            SupervisorSpec::new("app").child(spec.backoff(Backoff::exponential(60 * SEC, 60 * SEC).unwrap())).start();
        addr.send(Crash).await.unwrap_err();
        let waits = addr.send(Which);
        let start = Instant::now();
        app.shutdown().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(waits.await.unwrap_err().into_message().is_some());
    });
}
