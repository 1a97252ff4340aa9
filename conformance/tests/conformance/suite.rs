//! Tests of the suite itself.

use conformance::{CHANGED_IN_4, Difference, KNOWN_DIFFERENCES, Outcome, judge};

const LISTED: &[Difference] = &[Difference { behaviour: "queues::differ", reason: "the reason" }];

#[test]
fn a_behaviour_that_passes_agrees_and_one_that_panics_differs() {
    assert!(matches!(judge("queues::agree", LISTED, || ()), Outcome::Agrees));
    assert!(matches!(judge("queues::agree", LISTED, || panic!("not so")), Outcome::Differs(_)));
}

#[test]
fn a_listed_difference_may_fail_and_must_not_pass() {
    assert!(matches!(judge("queues::differ", LISTED, || panic!("as listed")), Outcome::KnownDifference("the reason")));
    assert!(matches!(judge("queues::differ", LISTED, || ()), Outcome::Stale("the reason")));
}

#[test]
fn a_listed_difference_names_a_behaviour() {
    let unknown: Vec<_> = KNOWN_DIFFERENCES
        .iter()
        .chain(CHANGED_IN_4)
        .filter(|known| !crate::real::NAMES.contains(&known.behaviour))
        .collect();
    assert!(unknown.is_empty(), "no behaviour has these names: {unknown:?}");
}
