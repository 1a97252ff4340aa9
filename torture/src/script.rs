//! What handlers do, and the content of messages: pure functions of the seed, so that a run can be repeated and judged.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    time::Duration,
};

use fastrand::Rng;

use crate::{
    foreign::Foreign,
    id::{Id, Lane},
};

/// The most attempts of a message.
pub const ATTEMPTS: u32 = 4;

/// The most deliveries of a message without an answer.
pub const DELIVERIES: u32 = 2 * ATTEMPTS;

/// The longest body, in bytes.
const LONGEST: usize = 3_000;

/// How long a handler blocks its thread: longer than `Consume::on_io` lets it stay.
pub const BLOCKED: Duration = Duration::from_millis(120);

/// What a handler does with one message on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Handles it at once.
    Ack,
    /// Handles the message after a while.
    Slow(Duration),
    /// Blocks its thread for [`BLOCKED`], and handles the message.
    Block,
    /// Fails: try again.
    Retry,
    /// Fails for good.
    Reject,
    /// Panics in `handle`: the actor crashes.
    Panic,
    /// Panics in the future that `handle` returned: the actor lives on.
    PanicLater,
    /// Never answers.
    Hang,
    /// Ends the process.
    Abort,
}

impl Act {
    /// Whether this act handles the message.
    pub fn succeeds(self) -> bool {
        matches!(self, Self::Ack | Self::Slow(_) | Self::Block)
    }
}

/// The result for a message if every attempt is made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Handled on this attempt.
    Handled(u32),
    /// Rejected on this attempt.
    Rejected(u32),
    /// Failed on its last attempt.
    Exhausted,
}

/// The attempts on which the whole batch of a message failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Along(u32);

impl Along {
    /// Adds an attempt.
    pub fn add(&mut self, attempt: u32) {
        self.0 |= 1 << (attempt % u32::BITS);
    }

    /// Whether this attempt is one of them.
    pub fn has(self, attempt: u32) -> bool {
        self.0 & 1 << (attempt % u32::BITS) != 0
    }
}

/// The acts of all handlers, and the bodies of all messages.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    seed: u64,
}

impl Script {
    /// The script of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// How the message is foreign, if a stranger published it.
    pub fn foreign(self, id: &Id) -> Option<Foreign> {
        id.is_foreign().then(|| Foreign::draw(&mut self.random(id, u32::MAX)))
    }

    /// The attempts the message may have: from the first that its headers claim, and always at least one.
    pub fn attempts(self, id: &Id) -> RangeInclusive<u32> {
        let first = self.foreign(id).map_or(1, |foreign| foreign.first_attempt());
        first..=first.max(ATTEMPTS)
    }

    /// The act of the handler.
    pub fn act(self, id: &Id, attempt: u32) -> Act {
        if id.is_poison() {
            return Act::Abort;
        }
        let mut random = self.random(id, attempt);
        let slow = Act::Slow(Duration::from_millis(random.u64(1..40)));
        let act = match (id.lane, random.u8(0..100)) {
            (Lane::Order, 0..70) => Act::Ack,
            (Lane::Order, _) => Act::Slow(Duration::from_millis(random.u64(1..6))),
            // These acts fail the whole batch.
            (Lane::Bulk, 91) => Act::Panic,
            (Lane::Bulk, 92) => Act::PanicLater,
            (Lane::Bulk, 93..) => Act::Ack,
            (_, 0..62) => Act::Ack,
            (_, 62..75) => slow,
            (_, 75..87) => Act::Retry,
            (_, 87..91) => Act::Reject,
            (_, 91..95) => Act::Panic,
            (_, 95..98) => Act::PanicLater,
            (Lane::Wild, _) => Act::Hang,
            // If a handler that hangs were given up, the next handler would repeat work that the first may still
            // finish.
            (_, _) => Act::Retry,
        };
        // Few, because each holds up its consumer.
        if act == Act::Ack && random.u8(..) == 0 { Act::Block } else { act }
    }

    /// The result for the message if nothing goes wrong, except the attempts on which its whole batch failed.
    pub fn fate(self, id: &Id, along: Along) -> Fate {
        for attempt in self.attempts(id).filter(|attempt| !along.has(*attempt)) {
            match self.act(id, attempt) {
                act if act.succeeds() => return Fate::Handled(attempt),
                Act::Reject => return Fate::Rejected(attempt),
                _ => {}
            }
        }
        Fate::Exhausted
    }

    /// The body: the id, and compressible filling of some length.
    pub fn body(self, id: &Id) -> String {
        let mut random = self.random(id, 0);
        let word = ["carrot ", "lettuce ", "clover ", "dandelion "][random.usize(0..4)];
        let length = if random.bool() { random.usize(0..100) } else { random.usize(0..LONGEST) };
        format!("{id} {}", &word.repeat(length / word.len() + 1)[..length])
    }

    /// Whether the batches of this publisher form by themselves in this run; else they linger.
    pub fn batches_are_adaptive(self, publisher: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, publisher).hash(&mut hasher);
        Rng::with_seed(hasher.finish()).bool()
    }

    /// Whether the handlers of this lane run where deliveries arrive in this run, until one of them blocks that thread.
    pub fn handlers_are_on_io(self, lane: Lane) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, lane.queue(), "on io").hash(&mut hasher);
        Rng::with_seed(hasher.finish()).bool()
    }

    pub(crate) fn random(self, id: &Id, attempt: u32) -> Rng {
        // The result is the same on all machines with the same build, so a seed can be repeated on them.
        let mut hasher = DefaultHasher::new();
        (self.seed, id, attempt).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(lane: Lane) -> impl Iterator<Item = Id> {
        (0..2_000).map(move |number| Id { lane, source: "s0p0".to_owned(), number })
    }

    #[test]
    fn the_same_seed_writes_the_same_script_and_another_seed_another() {
        let play =
            |seed| ids(Lane::Wild).map(|id| (Script::new(seed).act(&id, 1), Script::new(seed).body(&id))).collect();
        let (first, again, other): (Vec<_>, Vec<_>, Vec<_>) = (play(1), play(1), play(2));
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn in_each_run_some_publishers_have_batches_that_form_by_themselves_and_others_linger() {
        let adaptive = |seed, number| Script::new(seed).batches_are_adaptive(&format!("s{number}"));
        let of_a_run = (0..40).filter(|publisher| adaptive(1, *publisher)).count();
        let of_a_publisher = (0..40).filter(|seed| adaptive(*seed, 1)).count();
        for adaptive in [of_a_run, of_a_publisher] {
            assert!((5..=35).contains(&adaptive), "{adaptive}");
        }
        assert_eq!(adaptive(3, 4), adaptive(3, 4));
    }

    #[test]
    fn in_each_run_some_lanes_are_handled_on_io_and_each_lane_in_some_runs() {
        let on_io = |seed, lane| Script::new(seed).handlers_are_on_io(lane);
        let of_runs = (0..40).filter(|seed| Lane::ALL.into_iter().any(|lane| on_io(*seed, lane))).count();
        assert!(of_runs >= 35, "{of_runs}");
        for lane in Lane::ALL {
            let of_a_lane = (0..40).filter(|seed| on_io(*seed, lane)).count();
            assert!((5..=35).contains(&of_a_lane), "{lane:?}: {of_a_lane}");
        }
    }

    #[test]
    fn wild_handlers_do_all_there_is_ordered_ones_never_fail_and_only_wild_ones_hang() {
        let script = Script::new(7);
        let did = |lane, act: Act| ids(lane).any(|id| script.act(&id, 1) == act);
        for act in [Act::Ack, Act::Block, Act::Retry, Act::Reject, Act::Panic, Act::PanicLater, Act::Hang] {
            assert!(did(Lane::Wild, act), "{act:?}");
        }
        assert!(ids(Lane::Order).all(|id| script.act(&id, 1).succeeds()));
        assert!([Lane::Once, Lane::Most, Lane::Bulk].into_iter().all(|lane| !did(lane, Act::Hang)));
        assert!([Act::Retry, Act::Reject, Act::Panic, Act::PanicLater].into_iter().all(|act| did(Lane::Bulk, act)));
        assert!(ids(Lane::Wild).any(|id| script.fate(&id, Along::default()) == Fate::Exhausted));
    }
}
