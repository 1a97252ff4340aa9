//! Tests of the model: good histories, and for each promise one that breaks it.

use super::*;
use crate::{foreign::Kind, script::ATTEMPTS};

const SCRIPT: u64 = 7;

/// The first message of this lane and this publisher for which the handler first does `act`.
fn message(lane: Lane, source: &str, wanted: impl Fn(&Id) -> bool) -> Id {
    (0..100_000).map(|number| Id { lane, source: source.to_owned(), number }).find(|id| wanted(id)).unwrap()
}

fn acts(lane: Lane, acts: &'static [Act]) -> Id {
    message(lane, "s0p0", |id| (1..).zip(acts).all(|(attempt, act)| Script::new(SCRIPT).act(id, attempt) == *act))
}

fn judged(facts: Vec<Fact>) -> (Totals, Vec<Breach>) {
    let mut model = Model::new(Script::new(SCRIPT));
    facts.into_iter().for_each(|fact| model.take(fact));
    model.judge()
}

fn breaches(facts: Vec<Fact>) -> Vec<Breach> {
    judged(facts).1
}

/// A message that was published and confirmed, followed by these facts.
fn accepted(id: &Id, then: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
    [Fact::Try(id.clone()), Fact::Yes(id.clone())].into_iter().chain(then).collect()
}

fn handled(id: &Id) -> [Fact; 3] {
    [Fact::Begin(id.clone(), 1), Fact::Done(id.clone(), 1), Fact::Acked(id.clone(), 1)]
}

fn dead(id: &Id, attempts: u32, why: &str) -> Fact {
    Fact::Dead(id.clone(), attempts, why.to_owned())
}

/// A dead letter after so many deliveries without an answer.
fn limit(id: &Id, times: u32) -> [Fact; 2] {
    [Fact::Delivered(id.clone(), times), dead(id, 1, "delivery-limit")]
}

#[test]
fn what_is_handled_or_dead_is_as_it_should_be() {
    let good = acts(Lane::Wild, &[Act::Ack]);
    let (totals, breaches) = judged(accepted(&good, handled(&good)));
    assert_eq!((totals.accepted, totals.handled, totals.dead, breaches), (1, 1, 0, vec![]));

    let bad = acts(Lane::Wild, &[Act::Retry, Act::Reject]);
    let (totals, breaches) =
        judged(accepted(&bad, [Fact::Begin(bad.clone(), 1), Fact::Begin(bad.clone(), 2), dead(&bad, 2, "rejected")]));
    assert_eq!((totals.accepted, totals.handled, totals.dead, breaches), (1, 0, 1, vec![]));
}

#[test]
fn what_is_accepted_and_never_ends_is_lost_and_waited_for() {
    let id = acts(Lane::Wild, &[Act::Retry]);
    let facts = accepted(&id, [Fact::Begin(id.clone(), 1)]);
    let mut model = Model::new(Script::new(SCRIPT));
    facts.iter().cloned().for_each(|fact| model.take(fact));
    assert_eq!(model.waiting(), 1);
    assert_eq!(breaches(facts), [Breach::Lost(id.clone())]);
    // A message that was not accepted may get lost.
    let unknown = vec![Fact::Try(id.clone()), Fact::Maybe(id.clone(), "unknown".to_owned())];
    assert_eq!(breaches(unknown), []);
}

#[test]
fn a_message_is_waited_for_once_however_often_it_is_accepted_and_handled() {
    let id = acts(Lane::Wild, &[Act::Ack]);
    let mut model = Model::new(Script::new(SCRIPT));
    for (fact, waiting) in [
        (Fact::Try(id.clone()), 0),
        (Fact::Yes(id.clone()), 1),
        (Fact::Yes(id.clone()), 1),
        (Fact::Done(id.clone(), 1), 0),
        (Fact::Done(id.clone(), 1), 0),
        (Fact::Yes(id), 0),
    ] {
        model.take(fact);
        assert_eq!(model.waiting(), waiting);
    }
}

#[test]
fn at_least_once_may_repeat_and_effectively_once_may_not() {
    let twice = |id: &Id| accepted(id, handled(id).into_iter().chain(handled(id)));
    let wild = acts(Lane::Wild, &[Act::Ack]);
    let (totals, none) = judged(twice(&wild));
    assert_eq!((totals.repeated, none), (1, vec![]));
    let once = acts(Lane::Once, &[Act::Ack]);
    assert_eq!(breaches(twice(&once)), [Breach::EffectRepeated(once, 2)]);
}

#[test]
fn at_most_once_may_drop_and_not_be_begun_twice() {
    let id = acts(Lane::Most, &[Act::Ack]);
    let (totals, none) = judged(accepted(&id, []));
    assert_eq!((totals.dropped, none), (1, vec![]));
    let begun = |times| (0..times).map(|_| Fact::Begin(id.clone(), 1));
    assert_eq!(breaches(accepted(&id, begun(1))), []);
    assert_eq!(breaches(accepted(&id, begun(2))), [Breach::HandledTwice(id.clone(), 2)]);
}

#[test]
fn order_is_that_of_the_first_handling_of_what_was_accepted() {
    let id = |number| Id { lane: Lane::Order, source: "s0p0".to_owned(), number };
    let played = |order: &[u64], unaccepted: Option<u64>| {
        let mut facts = Vec::new();
        for number in 0..3 {
            facts.push(Fact::Try(id(number)));
            if unaccepted != Some(number) {
                facts.push(Fact::Yes(id(number)));
            }
        }
        order.iter().for_each(|number| facts.extend(handled(&id(*number))));
        breaches(facts)
    };
    assert_eq!(played(&[0, 1, 2], None), []);
    assert_eq!(played(&[0, 1, 0, 1, 2], None), [], "what comes again may");
    assert_eq!(played(&[0, 2, 1], None), [Breach::OrderBroken(id(1), 2)]);
    assert_eq!(played(&[1, 2, 0], Some(0)), [], "what was never accepted may come late");
}

#[test]
fn attempts_are_earned_and_end() {
    let good = acts(Lane::Wild, &[Act::Ack]);
    let begin = |id: &Id, attempt| Fact::Begin(id.clone(), attempt);
    let facts = accepted(&good, handled(&good).into_iter().chain([begin(&good, 2)]));
    assert_eq!(breaches(facts), [Breach::Unearned(good, 2)]);
    let tired = acts(Lane::Wild, &[Act::Retry, Act::Retry, Act::Retry, Act::Retry]);
    let all =
        accepted(&tired, (1..=4).map(|attempt| begin(&tired, attempt)).chain([dead(&tired, 4, "attempts-exhausted")]));
    assert_eq!(breaches(all.clone()), []);
    let more = all.into_iter().chain([begin(&tired, 5)]).collect();
    assert_eq!(breaches(more), [Breach::PastTheCap(tired, 5)]);
}

#[test]
fn in_a_batch_that_fails_as_a_whole_each_message_has_failed_and_in_any_other_none_but_its_own() {
    let good = acts(Lane::Bulk, &[Act::Ack, Act::Ack]);
    let (begin, along) = (|attempt| Fact::Begin(good.clone(), attempt), Fact::Along(good.clone(), 1));
    let again = [begin(2), Fact::Done(good.clone(), 2)];
    assert_eq!(breaches(accepted(&good, [begin(1), along.clone()].into_iter().chain(again.clone()))), []);
    let unearned = Breach::Unearned(good.clone(), 2);
    assert_eq!(breaches(accepted(&good, [begin(1)].into_iter().chain(again))), [unearned]);

    // The first failure is that of another item in the batch, so the message itself failed once less.
    let tired = acts(Lane::Bulk, &[Act::Ack, Act::Retry, Act::Retry, Act::Retry]);
    let exhausted = dead(&tired, 4, "attempts-exhausted");
    let wrongly = Breach::DeadWrongly(tired.clone(), 4, "attempts-exhausted".to_owned());
    assert_eq!(breaches(accepted(&tired, [Fact::Along(tired.clone(), 1), exhausted.clone()])), []);
    assert_eq!(breaches(accepted(&tired, [exhausted])), [wrongly]);

    let calm = message(Lane::Bulk, "z0p0", |id| {
        let script = Script::new(SCRIPT);
        script.act(id, 1) == Act::Ack && script.act(id, 2) == Act::Ack
    });
    let (first, second) = (Fact::Begin(calm.clone(), 1), Fact::Begin(calm.clone(), 2));
    let taken_along = [first, Fact::Along(calm.clone(), 1), second, Fact::Done(calm.clone(), 2)];
    assert_eq!(breaches(accepted(&calm, taken_along)), []);
}

#[test]
fn an_item_of_a_batch_keeps_its_name() {
    let id = acts(Lane::Wild, &[Act::Ack]);
    let named = |name: &str| Fact::Named(id.clone(), name.to_owned());
    let facts = |again| accepted(&id, [named("e/3")].into_iter().chain(handled(&id)).chain([named(again)]));
    assert_eq!(breaches(facts("e/3")), []);
    assert_eq!(breaches(facts("f/3")), [Breach::Renamed(id, "e/3".to_owned(), "f/3".to_owned())]);
}

#[test]
fn while_the_machine_stands_still_a_deadline_may_pass_and_nothing_else_is_excused() {
    let stall = || Fact::Stall(std::time::Duration::from_secs(1));
    let again = |lane| {
        let id = acts(lane, &[Act::Ack]);
        let late = [Fact::Begin(id.clone(), 1), stall(), Fact::Done(id.clone(), 1), Fact::Begin(id.clone(), 2)];
        (accepted(&id, late), Breach::Unearned(id, 2))
    };
    assert_eq!(breaches(again(Lane::Wild).0), []);
    let (facts, unearned) = again(Lane::Once);
    assert_eq!(breaches(facts), [unearned], "its handlers have ten minutes");
    let (mut facts, unearned) = again(Lane::Wild);
    facts.retain(|fact| *fact != stall());
    assert_eq!(breaches([vec![stall()], facts].concat()), [unearned], "it was over when this one came");

    let calm = message(Lane::Wild, "z0p0", |id| Script::new(SCRIPT).act(id, 1) == Act::Ack);
    let twice = handled(&calm).into_iter().chain([stall()]).chain(handled(&calm));
    assert_eq!(breaches(accepted(&calm, twice)), []);
    let beside: Id = "wild.x0p1.6".parse().unwrap();
    assert_eq!(breaches(accepted(&beside, [stall(), dead(&beside, 1, "delivery-limit")])), []);
    let lost = acts(Lane::Wild, &[Act::Retry]);
    assert_eq!(breaches(accepted(&lost, [stall()])), [Breach::Lost(lost)]);
}

#[test]
fn what_kills_its_process_is_buried_in_time_and_takes_nobody_with_it() {
    let poison: Id = "wild.x0p1.5".parse().unwrap();
    assert!(poison.is_poison());
    let killed = |times| (0..times).map(|_| Fact::Begin(poison.clone(), 1)).chain(limit(&poison, times));
    assert_eq!(breaches(accepted(&poison, killed(8))), []);
    assert_eq!(breaches(accepted(&poison, killed(9))), [Breach::KilledTooOften(poison.clone(), 9)]);
    let never_buried = accepted(&poison, killed(8).take(8).collect::<Vec<_>>());
    assert_eq!(breaches(never_buried), [Breach::Lost(poison.clone())]);

    let beside: Id = "wild.x0p1.6".parse().unwrap();
    let wrongly = Breach::DeadWrongly(beside.clone(), 1, "delivery-limit".to_owned());
    assert_eq!(breaches(accepted(&beside, [dead(&beside, 1, "delivery-limit")])), [wrongly]);
}

#[test]
fn nothing_is_acked_that_was_not_handled() {
    let id = acts(Lane::Wild, &[Act::Hang]);
    let acked = [Fact::Begin(id.clone(), 1), Fact::Acked(id.clone(), 1)];
    let facts = accepted(&id, acked.into_iter().chain(limit(&id, 20)));
    assert_eq!(breaches(facts), [Breach::AckedUndone(id)]);
}

#[test]
fn what_was_refused_each_time_does_not_come() {
    let id = acts(Lane::Wild, &[Act::Ack]);
    let refused = || [Fact::Try(id.clone()), Fact::No(id.clone(), "nacked".to_owned())];
    assert_eq!(breaches(refused().into_iter().chain(handled(&id)).collect()), [Breach::Refused(id.clone())]);
    // A message that was published again may arrive.
    let again = refused().into_iter().chain([Fact::Try(id.clone())]).chain(handled(&id)).collect();
    assert_eq!(breaches(again), []);
}

#[test]
fn a_journal_refuses_only_while_its_disk_is_full() {
    use Room::{None, Some};
    let id = acts(Lane::Wild, &[Act::Ack]);
    let (tried, refused) = (|| Fact::Try(id.clone()), || Fact::Unwritten(id.clone(), "full".to_owned()));
    let disk = Fact::Disk;
    for legitimate in [
        vec![disk(None), tried(), refused()],
        // The message was refused while the disk was full, and its sender got the refusal when there was room again.
        vec![tried(), disk(None), disk(Some), refused()],
        vec![disk(None), tried(), disk(Some), refused()],
    ] {
        let (totals, breaches) = judged(legitimate);
        assert_eq!((totals.accepted, totals.unwritten, breaches), (0, 1, vec![]));
    }
    for groundless in [
        vec![tried(), refused()],
        vec![tried(), refused(), disk(None)],
        // The disk has room again, but the publisher has not noticed.
        vec![disk(None), disk(Some), tried(), refused()],
    ] {
        assert_eq!(breaches(groundless), [Breach::Unwritten(id.clone())]);
    }
    let came = [disk(None), tried(), refused()].into_iter().chain(handled(&id)).collect();
    assert_eq!(breaches(came), [Breach::Refused(id.clone())]);
}

#[test]
fn strangers_changed_bodies_and_wrong_types_are_noticed() {
    let id = acts(Lane::Wild, &[Act::Ack]);
    assert_eq!(breaches(vec![Fact::Begin(id.clone(), 1)]), [Breach::Stranger(id.clone())]);
    let facts = accepted(&id, handled(&id).into_iter().chain([Fact::Garbled(id.clone())]));
    assert_eq!(breaches(facts), [Breach::Garbled(id)]);
    let id = acts(Lane::Both, &[Act::Ack]);
    let facts = accepted(&id, [Fact::Mistyped(id.clone())].into_iter().chain(handled(&id)));
    assert_eq!(breaches(facts), [Breach::Mistyped(id)]);
}

#[test]
fn a_dead_letter_tells_the_truth() {
    let good = acts(Lane::Wild, &[Act::Ack]);
    let tried = acts(Lane::Wild, &[Act::Retry, Act::Ack]);
    for (id, attempts, why) in [
        (&good, 1, "rejected"),
        (&tried, 4, "attempts-exhausted"),
        (&tried, 2, "attempts-exhausted"),
        (&good, 1, "undecodable"),
        (&good, 1, ""),
    ] {
        let wrongly = Breach::DeadWrongly(id.clone(), attempts, why.to_owned());
        assert_eq!(breaches(accepted(id, [dead(id, attempts, why)])), [wrongly]);
    }
}

#[test]
fn a_lost_connection_is_charged_to_nobody() {
    let wrongly = |id: &Id| vec![Breach::DeadWrongly(id.clone(), 1, "delivery-limit".to_owned())];
    let killed = || Fact::Killed("c1".to_owned());
    for lane in [Lane::Wild, Lane::Once, Lane::Bulk] {
        let id = acts(lane, &[Act::Ack]);
        assert_eq!(breaches(accepted(&id, limit(&id, 19))), wrongly(&id));
        assert_eq!(breaches(accepted(&id, limit(&id, 20))), [], "or the broker would drop it");
        assert_eq!(breaches(accepted(&id, [dead(&id, 1, "delivery-limit")])), wrongly(&id), "it must say how many");
        let amid = |times| breaches(accepted(&id, [killed()].into_iter().chain(limit(&id, times))));
        // Its process is not the one that is killed.
        assert_eq!(amid(8), if lane == Lane::Once { wrongly(&id) } else { vec![] });
        assert_eq!(amid(7), wrongly(&id));
        let before = [vec![killed()], accepted(&id, limit(&id, 8))].concat();
        assert_eq!(breaches(before), wrongly(&id));
    }
    let calm = message(Lane::Wild, "z0p0", |id| Script::new(SCRIPT).act(id, 1) == Act::Ack);
    let stalled = [Fact::Stall(std::time::Duration::from_secs(1))];
    assert_eq!(breaches(accepted(&calm, stalled.into_iter().chain(limit(&calm, 8)))), wrongly(&calm));
}

#[test]
fn after_the_storm_everything_happens_exactly_as_written() {
    let script = Script::new(SCRIPT);
    let first = |lane, wanted: fn(Act) -> bool| message(lane, "z0p0", |id| wanted(script.act(id, 1)));
    let good = first(Lane::Wild, |act| act == Act::Ack);
    assert_eq!(breaches(accepted(&good, handled(&good))), []);
    let twice = accepted(&good, handled(&good).into_iter().chain(handled(&good)));
    let [Breach::NotCalm(id, _)] = &breaches(twice)[..] else { panic!("handled twice in the calm") };
    assert_eq!(*id, good);
    let most = first(Lane::Most, |act| act == Act::Ack);
    let [Breach::NotCalm(id, _)] = &breaches(accepted(&most, []))[..] else { panic!("dropped in the calm") };
    assert_eq!(*id, most);
    let refused = vec![Fact::Try(good.clone()), Fact::No(good.clone(), "nacked".to_owned())];
    assert!(matches!(breaches(refused)[..], [Breach::NotCalm(..)]));
    // A publisher without a journal is not affected by a full disk; one with a journal gets an error.
    let full = || [Fact::Disk(Room::None), Fact::Try(good.clone())];
    assert!(matches!(breaches(full().to_vec())[..], [Breach::NotCalm(..)]));
    let told = full().into_iter().chain([Fact::Unwritten(good.clone(), "full".to_owned())]).collect();
    assert_eq!(breaches(told), []);
}

/// The first message of a stranger to this lane that satisfies the condition.
fn foreign(lane: Lane, source: &str, wanted: impl Fn(&Foreign, &Id) -> bool) -> Id {
    message(lane, source, |id| wanted(&Script::new(SCRIPT).foreign(id).unwrap(), id))
}

#[test]
fn what_nobody_can_read_is_a_dead_letter_that_says_so_and_no_handler_is_given_it() {
    for lane in Lane::ALL.into_iter().filter(|lane| lane.has_strangers()) {
        let id = foreign(lane, "f0", |foreign, _| !foreign.is_readable() && !foreign.is_refused());
        let undecodable = dead(&id, 1, "undecodable");
        let (totals, none) = judged(accepted(&id, [undecodable.clone()]));
        assert_eq!((totals.foreign, totals.undecodable, none), (1, 1, vec![]));
        for (attempts, why) in [(1, "rejected"), (4, "attempts-exhausted"), (1, "delivery-limit"), (2, "undecodable")] {
            let wrongly = Breach::DeadWrongly(id.clone(), attempts, why.to_owned());
            assert_eq!(breaches(accepted(&id, [dead(&id, attempts, why)])), [wrongly]);
        }
        let begun = accepted(&id, [Fact::Begin(id.clone(), 1), undecodable]);
        assert_eq!(breaches(begun), [Breach::Unreadable(id.clone())]);
        let vanished = if lane.loses_nothing() { vec![Breach::Lost(id.clone())] } else { vec![] };
        assert_eq!(breaches(accepted(&id, [])), vanished);
    }
}

#[test]
fn what_is_foreign_and_can_be_read_is_handled_as_any_other() {
    let readable = |foreign: &Foreign, id: &Id| {
        foreign.is_readable() && foreign.first_attempt() == 1 && Script::new(SCRIPT).act(id, 1) == Act::Ack
    };
    let id = foreign(Lane::Wild, "f0", readable);
    let (totals, none) = judged(accepted(&id, handled(&id)));
    assert_eq!((totals.foreign, totals.undecodable, none), (1, 0, vec![]));
    let wrongly = Breach::DeadWrongly(id.clone(), 1, "undecodable".to_owned());
    assert_eq!(breaches(accepted(&id, [dead(&id, 1, "undecodable")])), [wrongly]);
    assert_eq!(breaches(accepted(&id, [])), [Breach::Lost(id)]);

    let twice = |id: &Id| accepted(id, handled(id).into_iter().chain(handled(id)));
    let named = foreign(Lane::Once, "f0", |foreign, id| readable(foreign, id) && foreign.is_named());
    assert_eq!(breaches(twice(&named)), [Breach::EffectRepeated(named.clone(), 2)]);
    let nameless = foreign(Lane::Once, "f0", |foreign, id| readable(foreign, id) && !foreign.is_named());
    assert_eq!(breaches(twice(&nameless)), [], "nothing tells it from another");

    let names = |id: &Id| ["", "a"].map(|name| Fact::Named(id.clone(), name.to_owned()));
    let renamed = Breach::Renamed(named.clone(), String::new(), "a".to_owned());
    assert_eq!(breaches(accepted(&named, handled(&named).into_iter().chain(names(&named)))), [renamed]);
    assert_eq!(breaches(accepted(&nameless, handled(&nameless).into_iter().chain(names(&nameless)))), []);
}

#[test]
fn attempts_count_from_the_first_that_a_stranger_says() {
    let saying = |number, first: Act| {
        foreign(Lane::Wild, "f0", |foreign, id| {
            let script = Script::new(SCRIPT);
            foreign.kind == Kind::Attempt(number)
                && script.act(id, foreign.first_attempt()) == first
                && (script.act(id, ATTEMPTS) == Act::Retry || number > 3)
        })
    };
    let begin = |id: &Id, attempt| Fact::Begin(id.clone(), attempt);
    // Attempts before the claimed one do not happen, although the handler would fail on them.
    let third = foreign(Lane::Wild, "f0", |foreign, id| {
        let acts = [1, 2, 3].map(|attempt| Script::new(SCRIPT).act(id, attempt));
        foreign.kind == Kind::Attempt(3) && acts == [Act::Retry, Act::Retry, Act::Ack]
    });
    let done = |id: &Id| Fact::Done(id.clone(), 1);
    assert_eq!(breaches(accepted(&third, [begin(&third, 3), done(&third)])), []);
    for other in [1, 2, 4] {
        let unearned = Breach::Unearned(third.clone(), other);
        assert_eq!(breaches(accepted(&third, [begin(&third, other), done(&third)])), [unearned]);
    }
    let exhausted = |id: &Id, attempts| dead(id, attempts, "attempts-exhausted");
    let tired = saying(3, Act::Retry);
    let all = [begin(&tired, 3), begin(&tired, 4), exhausted(&tired, 4)];
    assert_eq!(breaches(accepted(&tired, all)), []);
    for (number, last) in [(9, 9), (i64::MAX, u32::MAX)] {
        let late = saying(number, Act::Retry);
        assert_eq!(breaches(accepted(&late, [begin(&late, last), exhausted(&late, last)])), []);
        let wrongly = Breach::DeadWrongly(late.clone(), 4, "attempts-exhausted".to_owned());
        assert_eq!(breaches(accepted(&late, [begin(&late, last), exhausted(&late, 4)])), [wrongly]);
    }
    let late = saying(9, Act::Retry);
    let past = Breach::PastTheCap(late.clone(), 10);
    assert_eq!(breaches(accepted(&late, [begin(&late, 9), begin(&late, 10), done(&late)])), [past]);
}

#[test]
fn after_the_storm_what_is_foreign_comes_out_as_its_kind_says() {
    let is_not_calm = |facts| matches!(breaches(facts)[..], [Breach::NotCalm(..)]);
    for lane in Lane::ALL.into_iter().filter(|lane| lane.has_strangers()) {
        let id = foreign(lane, "zf0", |foreign, _| !foreign.is_readable() && !foreign.is_refused());
        let undecodable = || dead(&id, 1, "undecodable");
        let once = if lane.loses_nothing() { vec![undecodable()] } else { vec![] };
        assert_eq!(breaches(accepted(&id, once.clone())), []);
        assert!(is_not_calm(accepted(&id, [once, vec![undecodable()]].concat())));
        assert!(is_not_calm(vec![Fact::Try(id.clone()), Fact::Maybe(id, "cut".to_owned())]));

        let refused = foreign(lane, "zf0", |foreign, _| foreign.is_refused());
        let no = || vec![Fact::Try(refused.clone()), Fact::No(refused.clone(), "501".to_owned())];
        assert_eq!(breaches(no()), []);
        assert!(is_not_calm(vec![Fact::Try(refused.clone()), Fact::Maybe(refused.clone(), "cut".to_owned())]));
        let came = breaches([no(), vec![dead(&refused, 1, "undecodable")]].concat());
        assert!(matches!(came[..], [Breach::Refused(_), Breach::NotCalm(..)]), "{came:?}");
    }
    let twice = foreign(Lane::Wild, "zf0", |foreign, id| {
        let act = |attempt| Script::new(SCRIPT).act(id, attempt);
        foreign.kind == Kind::Attempt(2) && (act(2), act(3)) == (Act::Retry, Act::Ack)
    });
    let begin = |attempt| Fact::Begin(twice.clone(), attempt);
    let done = || Fact::Done(twice.clone(), 3);
    assert_eq!(breaches(accepted(&twice, [begin(2), begin(3), done()])), []);
    assert!(is_not_calm(accepted(&twice, [begin(2), begin(3), begin(3), done()])));
}
