//! A set of sequence numbers, for numbers that mostly arrive in order.

use std::collections::VecDeque;

/// A set of sequence numbers. Numbers before the first gap take no memory, those after it one bit each.
#[derive(Default)]
pub(crate) struct Sequences {
    /// The number of full 64-bit words: every number below `64 * full` is in the set.
    full: u64,
    words: VecDeque<u64>,
    len: u64,
}

impl Sequences {
    /// Adds a number. True if it is new.
    pub(crate) fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = (sequence / 64, 1 << (sequence % 64));
        let Some(place) = word.checked_sub(self.full) else { return false };
        let place = place as usize;
        if place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        if self.words[place] & bit != 0 {
            return false;
        }
        self.words[place] |= bit;
        self.len += 1;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.full += 1;
        }
        true
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let Some(place) = (sequence / 64).checked_sub(self.full) else { return true };
        self.words.get(place as usize).is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }

    /// How many numbers are in the set.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The numbers below `end` that are not in the set, in order.
    pub(crate) fn missing(&self, end: u64) -> impl Iterator<Item = u64> + '_ {
        (self.full.saturating_mul(64)..end).filter(|sequence| !self.contains(*sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_order_takes_no_memory() {
        let mut set = Sequences::default();
        for sequence in 0..1_000_000 {
            assert!(set.insert(sequence));
        }
        assert!(set.words.len() <= 1);
        assert_eq!(set.len(), 1_000_000);
        assert!(!set.insert(0) && !set.insert(999_999), "both are in it");
        assert_eq!(set.missing(1_000_000).next(), None);
    }

    #[test]
    fn gaps_are_missing_until_they_are_filled() {
        let mut set = Sequences::default();
        let holes = [0, 63, 64, 65, 1000];
        for sequence in (0..2000).rev().filter(|sequence| !holes.contains(sequence)) {
            assert!(set.insert(sequence));
        }
        assert_eq!(set.missing(2000).collect::<Vec<_>>(), holes);
        for hole in holes {
            assert!(!set.contains(hole));
            assert!(set.insert(hole));
            assert!(set.contains(hole));
        }
        assert_eq!(set.missing(2000).next(), None);
        assert_eq!(set.len(), 2000);
    }
}
