use std::time::Duration;

use fluffle_wire::headers::Reason;

use super::*;
use crate::{
    KillSwitch, Window,
    base::failure::Failure,
    consume::attempt::{attempt::tests::attempt, outcome::ItemOutcomes},
};

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new("backend").ratio(0.5).unwrap().window(Window::last(2))
}

fn with_breaker(breaker: &CircuitBreaker) -> Arc<Guard> {
    Arc::new(Guard { breaker: Some(breaker.clone()), ..Guard::default() })
}

fn with_kill_switch() -> Arc<Guard> {
    let switch = KillSwitch::new(0.5, Window::last(2)).unwrap();
    Arc::new(Guard { kill_switch: Some(switch.shared("q")), ..Guard::default() })
}

/// An attempt that a handler has been given.
fn begun() -> Attempt {
    let attempt = attempt(1);
    attempt.start();
    attempt
}

fn dead() -> Verdict {
    Verdict::DeadLetter { reason: Reason::Rejected, error: String::new() }
}

#[test]
fn without_switches_everything_is_allowed() {
    assert_eq!(Guard::default().allows(10), Some(10));
}

#[tokio::test(start_paused = true)]
async fn failures_open_the_breaker_and_what_was_delivered_before_it_opened_counts_no_more() {
    let breaker = breaker();
    let guard = with_breaker(&breaker);
    let mut watch = Watch::new(&guard);
    for _ in 0..2 {
        watch.answered(&begun(), &Outcome::Failed(Failure::retry("away")));
    }
    assert_eq!((guard.allows(10), guard.state()), (None, ConsumerState::BreakerOpen));
    watch.look(8);
    assert!(guard.resume());
    watch.look(8);
    for _ in 0..2 {
        // Tag 7, delivered before the change.
        watch.answered(&begun(), &Outcome::Failed(Failure::retry("away")));
    }
    assert_eq!(guard.allows(10), Some(10));
}

#[tokio::test(start_paused = true)]
async fn rejections_and_what_no_handler_was_given_say_nothing_about_what_the_breaker_guards() {
    let breaker = breaker();
    let guard = with_breaker(&breaker);
    let watch = Watch::new(&guard);
    for _ in 0..5 {
        watch.answered(&begun(), &Outcome::Failed(Failure::reject("no")));
        watch.answered(&attempt(1), &Outcome::Failed(Failure::retry("the intake failed")));
        watch.answered(&begun(), &Outcome::NotStarted);
    }
    assert_eq!(guard.allows(10), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_outcome_as_most_of_its_items_are() {
    let breaker = breaker();
    let guard = with_breaker(&breaker);
    let watch = Watch::new(&guard);
    let failed = |count: usize| {
        let why = || Arc::new(Outcome::Failed(Failure::retry("away")));
        Outcome::Items(ItemOutcomes { until: 4, failed: (0..count).map(|index| (index, why())).collect() })
    };
    for _ in 0..4 {
        watch.answered(&begun(), &failed(2));
    }
    assert_eq!(guard.allows(10), Some(10), "half of each are no failure");
    for _ in 0..2 {
        watch.answered(&begun(), &failed(3));
    }
    assert_eq!(guard.allows(10), None);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_stop_the_kill_switch_and_retries_say_nothing_to_it() {
    let guard = with_kill_switch();
    let watch = Watch::new(&guard);
    for _ in 0..5 {
        watch.settled(7, 1, &Verdict::Requeue);
        watch.settled(7, 1, &Verdict::Leave);
    }
    assert_eq!(guard.allows(10), Some(10));
    for _ in 0..2 {
        watch.settled(7, 1, &dead());
    }
    assert_eq!((guard.allows(10), guard.state()), (None, ConsumerState::Killed));
    assert!(guard.resume() && !guard.resume());
    assert_eq!(guard.allows(10), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_whoever_waits_for_it() {
    let guard = with_kill_switch();
    let mut watch = Watch::new(&guard);
    assert!(watch.is_on());
    let other = Watch::new(&guard);
    for _ in 0..2 {
        other.settled(7, 1, &dead());
    }
    tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.expect("it is woken");
}
