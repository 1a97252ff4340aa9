//! Decides which acks to write: as few as possible, and none for a delivery that is not finished.
//!
//! `basic.ack` with `multiple` acks every delivery of its channel up to its tag. It is therefore written only for the
//! finished deliveries that have no unfinished one before them. Finished deliveries behind an unfinished one are held
//! back for [`MOST_HELD_BACK`], because the unfinished one may end soon. After that, each is acked by itself.
//!
//! The code is pure: tags and times go in, acks come out.

use std::time::{Duration, Instant};

use crate::base::numbered::Numbered;

/// How long a finished delivery is held back behind an unfinished one, before it is acked by itself.
pub(crate) const MOST_HELD_BACK: Duration = Duration::from_millis(100);

/// If nothing else forces an ack, two acks are at least this far apart. The first one is written at once; the next one
/// covers everything that was finished since. Without this pause, each message would have an ack of its own, which
/// costs client and broker as much as the message itself.
pub(crate) const LEAST_APART: Duration = Duration::from_millis(1);

/// How many emptied lists are kept for reuse. More acks than this are seldom on their way at the same time. A list with
/// a capacity above `MOST_ROOM` is freed instead.
const MOST_SPARE: usize = 4;
const MOST_ROOM: usize = 256;

/// A `basic.ack` to write, and the finished deliveries that it covers.
#[derive(Debug, PartialEq)]
pub(crate) struct Ack<D> {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
    pub(crate) done: Vec<D>,
}

/// The deliveries of one channel that are not settled.
pub(crate) struct Acks<D> {
    unacked: Numbered<State<D>>,
    /// The last tag that was delivered.
    last: u64,
    finished: usize,
    bytes: u64,
    /// Emptied lists of written acks, for reuse: a list is larger than the blocks that malloc keeps at hand.
    spare: Vec<Vec<D>>,
}

enum State<D> {
    /// A handler has it or will have it, or a command that is not written yet settles it.
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
        // The broker skips no tag. A tag that never arrived here stays open and is never acked.
        for tag in self.last + 1..=tag {
            self.unacked.insert(tag, State::Open);
        }
        self.last = self.last.max(tag);
    }

    /// A delivery must be acked; until then it holds `bytes` of memory.
    pub(crate) fn finished(&mut self, tag: u64, bytes: u64, done: D, at: Instant) {
        if let Some(state @ State::Open) = self.unacked.get_mut(tag) {
            *state = State::Finished(Finished { at, bytes, done });
            self.finished += 1;
            self.bytes += bytes;
        }
    }

    /// A delivery was settled by a command other than an ack, and the command is written. Acks with `multiple` may pass
    /// over its tag from now on.
    pub(crate) fn settled_otherwise(&mut self, tag: u64) {
        if let Some(State::Open) = self.unacked.get(tag) {
            self.unacked.remove(tag);
        }
    }

    /// How many deliveries are finished and not acked.
    pub(crate) fn waiting(&self) -> usize {
        self.finished
    }

    /// How many bytes the finished and not acked deliveries hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the oldest delivery is finished, so that [`prefix`](Self::prefix) gives an ack.
    pub(crate) fn has_prefix(&self) -> bool {
        matches!(self.unacked.first(), Some((_, State::Finished(_))))
    }

    /// One ack for all finished deliveries that have no unfinished one before them.
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

    /// Takes back the list of a written ack for reuse.
    pub(crate) fn reuse(&mut self, mut done: Vec<D>) {
        done.clear();
        if self.spare.len() < MOST_SPARE && (2..=MOST_ROOM).contains(&done.capacity()) {
            self.spare.push(done);
        }
    }

    /// An ack for each delivery that was finished by `until`, even behind an unfinished one.
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

    /// What the broker knows about a tag.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Model {
        Open,
        Finished(Instant),
    }

    /// Writes an ack to the model. It must cover finished deliveries only, and each for the first time.
    fn write(unacked: &mut BTreeMap<u64, Model>, ack: &Ack<u64>) {
        let covered: Vec<u64> = match ack.multiple {
            true => unacked.range(..=ack.tag).map(|(tag, _)| *tag).collect(),
            false => vec![ack.tag],
        };
        assert_eq!(covered, ack.done, "`done` lists what the ack covers");
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
                        assert!(!left, "seed {seed}: a delivery held back for too long was not acked");
                    }
                }
                let finished = unacked.values().filter(|one| **one != Model::Open).count();
                assert_eq!((acks.waiting(), acks.bytes()), (finished, finished as u64), "seed {seed}");
            }
        }
    }
}
