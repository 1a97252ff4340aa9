//! Which acks to write: few, and never one too many.
//!
//! `basic.ack` with `multiple` acks every delivery of its channel up to its tag, so it may only ever stand for the
//! deliveries at the front that are all finished. Behind one that is not, the finished ones are held back, in the hope
//! that it ends soon, and then acked singly. Pure: tags and times in, acks out.

use std::time::{Duration, Instant};

use crate::base::numbered::Numbered;

/// How long a finished delivery is held back behind one that is not, before it is acked singly.
pub(crate) const MOST_HELD_BACK: Duration = Duration::from_millis(100);

/// How far apart, at least, two acks are that nothing but their time asks for. The first one waits for nothing; where
/// messages come faster, the next takes along all that is finished by then. An ack for each would cost client and
/// broker as much as the message.
pub(crate) const LEAST_APART: Duration = Duration::from_millis(1);

/// Emptied lists that are kept, at most: more acks than this are seldom on their way together. One with room for more
/// than `MOST_ROOM` is given up.
const MOST_SPARE: usize = 4;
const MOST_ROOM: usize = 256;

/// A `basic.ack` to write, and what it finishes.
#[derive(Debug, PartialEq)]
pub(crate) struct Ack<D> {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
    pub(crate) done: Vec<D>,
}

/// The deliveries of one channel that the broker waits to hear about.
pub(crate) struct Acks<D> {
    unacked: Numbered<State<D>>,
    /// The last tag that was delivered.
    last: u64,
    finished: usize,
    bytes: u64,
    /// Emptied lists of acks that are written, for those to come: one takes more memory than malloc keeps at hand.
    spare: Vec<Vec<D>>,
}

enum State<D> {
    /// With a handler, on its way there, or settled by a command of its own that is not written yet.
    Open,
    Finished(Finished<D>),
}

struct Finished<D> {
    at: Instant,
    bytes: u64,
    done: D,
}

impl<D> Default for Acks<D> {
    fn default() -> Self {
        Self { unacked: Numbered::default(), last: 0, finished: 0, bytes: 0, spare: Vec::new() }
    }
}

impl<D> Acks<D> {
    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        // Tags leave none out. One that never arrived here is nobody's to ack.
        for tag in self.last + 1..=tag {
            self.unacked.insert(tag, State::Open);
        }
        self.last = self.last.max(tag);
    }

    /// It is to be acked, and takes `bytes` of memory until it is.
    pub(crate) fn finished(&mut self, tag: u64, bytes: u64, done: D, at: Instant) {
        if let Some(state @ State::Open) = self.unacked.get_mut(tag) {
            *state = State::Finished(Finished { at, bytes, done });
            self.finished += 1;
            self.bytes += bytes;
        }
    }

    /// It was settled by a command of its own, which is written: acks that follow may pass over it.
    pub(crate) fn settled_otherwise(&mut self, tag: u64) {
        if let Some(State::Open) = self.unacked.get(tag) {
            self.unacked.remove(tag);
        }
    }

    /// How many are finished and not acked.
    pub(crate) fn waiting(&self) -> usize {
        self.finished
    }

    /// And how many bytes they are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether one ack would do for all at the front.
    pub(crate) fn has_prefix(&self) -> bool {
        matches!(self.unacked.first(), Some((_, State::Finished(_))))
    }

    /// One ack for all at the front.
    pub(crate) fn prefix(&mut self) -> Option<Ack<D>> {
        if !self.has_prefix() {
            return None;
        }
        let mut done = self.spare.pop().unwrap_or_default();
        let mut last = None;
        while let Some((tag, State::Finished(_))) = self.unacked.first() {
            done.extend(self.take(tag));
            last = Some(tag);
        }
        last.map(|tag| Ack { tag, multiple: done.len() > 1, done })
    }

    /// Takes back the list of an ack that is written.
    pub(crate) fn reuse(&mut self, mut done: Vec<D>) {
        done.clear();
        if self.spare.len() < MOST_SPARE && (2..=MOST_ROOM).contains(&done.capacity()) {
            self.spare.push(done);
        }
    }

    /// An ack for each that was finished by `until`, whatever stands before it.
    pub(crate) fn singly(&mut self, until: Instant) -> Vec<Ack<D>> {
        if self.finished == 0 {
            return Vec::new();
        }
        let is_due = |(tag, state): (u64, &State<D>)| match state {
            State::Finished(finished) if finished.at <= until => Some(tag),
            _ => None,
        };
        let due: Vec<u64> = self.unacked.iter().filter_map(is_due).collect();
        let single = |tag| Some(Ack { tag, multiple: false, done: vec![self.take(tag)?] });
        due.into_iter().filter_map(single).collect()
    }

    fn take(&mut self, tag: u64) -> Option<D> {
        match self.unacked.remove(tag)? {
            State::Open => None,
            State::Finished(Finished { bytes, done, .. }) => {
                self.finished -= 1;
                self.bytes -= bytes;
                Some(done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn delivered(tags: u64) -> Acks<u64> {
        let mut acks = Acks::default();
        (1..=tags).for_each(|tag| acks.delivered(tag));
        acks
    }

    fn finish(acks: &mut Acks<u64>, tags: &[u64], at: Instant) {
        tags.iter().for_each(|tag| acks.finished(*tag, 10, *tag, at));
    }

    #[test]
    fn all_at_the_front_take_one_ack_and_a_lone_one_is_not_multiple() {
        let now = Instant::now();
        let mut acks = delivered(5);
        finish(&mut acks, &[2, 1, 3], now);
        assert_eq!(acks.prefix(), Some(Ack { tag: 3, multiple: true, done: vec![1, 2, 3] }));
        finish(&mut acks, &[4], now);
        assert_eq!(acks.prefix(), Some(Ack { tag: 4, multiple: false, done: vec![4] }));
        assert_eq!((acks.prefix(), acks.waiting(), acks.bytes()), (None, 0, 0));
    }

    #[test]
    fn behind_an_unfinished_one_they_wait_and_are_acked_singly_past_the_age() {
        let now = Instant::now();
        let mut acks = delivered(4);
        finish(&mut acks, &[2, 3], now);
        finish(&mut acks, &[4], now + MOST_HELD_BACK);
        assert_eq!(acks.prefix(), None);
        let singles = acks.singly(now);
        assert_eq!(singles.iter().map(|ack| (ack.tag, ack.multiple)).collect::<Vec<_>>(), [(2, false), (3, false)]);
        finish(&mut acks, &[1], now);
        assert_eq!(acks.prefix(), Some(Ack { tag: 4, multiple: true, done: vec![1, 4] }));
    }

    #[test]
    fn a_tag_that_never_arrived_is_acked_by_nobody() {
        let now = Instant::now();
        let mut acks = delivered(1);
        acks.delivered(3);
        finish(&mut acks, &[1, 3], now);
        assert_eq!(acks.prefix(), Some(Ack { tag: 1, multiple: false, done: vec![1] }));
        assert_eq!(acks.prefix(), None);
        assert_eq!(acks.singly(now), [Ack { tag: 3, multiple: false, done: vec![3] }]);
    }

    /// What the broker knows of each tag.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Model {
        Open,
        Finished(Instant),
    }

    /// Writes an ack to the model: it must cover finished ones only, each for the first time.
    fn write(unacked: &mut BTreeMap<u64, Model>, ack: &Ack<u64>) {
        let covered: Vec<u64> = match ack.multiple {
            true => unacked.range(..=ack.tag).map(|(tag, _)| *tag).collect(),
            false => vec![ack.tag],
        };
        assert_eq!(covered, ack.done, "it says what it covers");
        for tag in covered {
            assert!(matches!(unacked.remove(&tag), Some(Model::Finished(_))), "{tag} in {ack:?}");
        }
    }

    #[test]
    fn no_ack_covers_an_unfinished_one_or_one_twice_and_none_is_left_behind_past_the_age() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut acks, mut unacked) = (Acks::default(), BTreeMap::new());
            let (mut now, mut last) = (Instant::now(), 0);
            for _ in 0..400 {
                let open: Vec<u64> = unacked.iter().filter(|one| *one.1 == Model::Open).map(|one| *one.0).collect();
                match (random.u8(..10), random.choice(open)) {
                    (0..=3, _) => {
                        last += 1;
                        acks.delivered(last);
                        unacked.insert(last, Model::Open);
                    }
                    (4..=6, Some(tag)) => {
                        acks.finished(tag, 1, tag, now);
                        unacked.insert(tag, Model::Finished(now));
                    }
                    (7, Some(tag)) => {
                        acks.settled_otherwise(tag);
                        unacked.remove(&tag);
                    }
                    (8, _) => {
                        if let Some(ack) = acks.prefix() {
                            write(&mut unacked, &ack);
                            acks.reuse(ack.done);
                        }
                    }
                    _ => {
                        now += MOST_HELD_BACK / 3;
                        let until = now - MOST_HELD_BACK;
                        acks.singly(until).iter().for_each(|ack| write(&mut unacked, ack));
                        let left = unacked.values().any(|one| matches!(one, Model::Finished(at) if *at <= until));
                        assert!(!left, "seed {seed}: one is left behind");
                    }
                }
                let finished = unacked.values().filter(|one| **one != Model::Open).count();
                assert_eq!((acks.waiting(), acks.bytes()), (finished, finished as u64), "seed {seed}");
            }
        }
    }
}
