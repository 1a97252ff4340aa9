//! Values kept by a number that counts up, such as a channel's delivery tags or a publisher's sequence numbers. Because
//! new numbers come at the end, a queue in the order of the numbers is enough.

use std::collections::VecDeque;

/// The queue is compacted once it has this many vacant places more than values.
const VACANT: usize = 32;

/// Values by number, in the order of the numbers. The memory it takes is proportional to the values it holds, even if
/// the first value stays for a long time.
pub(crate) struct Numbered<V> {
    places: VecDeque<(u64, Option<V>)>,
    held: usize,
}

impl<V> Default for Numbered<V> {
    fn default() -> Self {
        Self { places: VecDeque::new(), held: 0 }
    }
}

impl<V> Numbered<V> {
    pub(crate) fn insert(&mut self, number: u64, value: V) {
        match self.places.back() {
            Some((last, _)) if *last >= number => self.insert_between(number, value),
            _ => {
                self.places.push_back((number, Some(value)));
                self.held += 1;
            }
        }
    }

    /// Inserts a value whose number is not the highest: a value that comes back after later ones were inserted.
    fn insert_between(&mut self, number: u64, value: V) {
        let old = match self.find(number) {
            Ok(place) => self.places.get_mut(place).and_then(|(_, held)| held.replace(value)),
            Err(place) => {
                self.places.insert(place, (number, Some(value)));
                None
            }
        };
        self.held += usize::from(old.is_none());
    }

    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        self.places.get(self.find(number).ok()?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let place = self.find(number).ok()?;
        self.places.get_mut(place)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let place = self.find(number).ok()?;
        let value = self.places.get_mut(place)?.1.take()?;
        self.held -= 1;
        while self.places.front().is_some_and(|(_, held)| held.is_none()) {
            self.places.pop_front();
        }
        if self.places.len() > 2 * self.held + VACANT {
            self.places.retain(|(_, held)| held.is_some());
        }
        Some(value)
    }

    /// The lowest number and its value.
    pub(crate) fn first(&self) -> Option<(u64, &V)> {
        self.iter().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.places.iter().filter_map(|(number, held)| Some((*number, held.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.places.iter_mut().filter_map(|(number, held)| Some((*number, held.as_mut()?)))
    }

    /// Keeps only the values for which `keep` is true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.places.retain(|(_, held)| held.as_ref().is_some_and(&mut keep));
        self.held = self.places.len();
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> + '_ {
        self.held = 0;
        self.places.drain(..).filter_map(|(_, held)| held)
    }

    pub(crate) fn len(&self) -> usize {
        self.held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The index of `number`, or the index at which it would be inserted, as for a binary search.
    fn find(&self, number: u64) -> Result<usize, usize> {
        // If no number is missing before it, its distance from the first one is the difference of the numbers.
        let first = self.places.front().map_or(number, |(first, _)| *first);
        let near = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        match self.places.get(near) {
            Some((found, _)) if *found == number => Ok(near),
            _ => self.places.binary_search_by_key(&number, |(found, _)| *found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_map_would_hold_in_the_same_order() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut numbered, mut model, mut last) = (Numbered::default(), BTreeMap::new(), 0);
            for _ in 0..500 {
                let number = match random.u8(..4) {
                    0 => random.u64(..=last),
                    _ => {
                        last += 1;
                        last
                    }
                };
                if random.u8(..5) < 3 {
                    numbered.insert(number, seed + number);
                    model.insert(number, seed + number);
                } else {
                    let some = random.u64(last.saturating_sub(20)..=last);
                    assert_eq!(numbered.remove(some), model.remove(&some), "seed {seed}");
                }
                if random.u8(..50) == 0 {
                    numbered.iter_mut().for_each(|(_, value)| *value += 1);
                    model.values_mut().for_each(|value| *value += 1);
                    numbered.retain(|value| !value.is_multiple_of(3));
                    model.retain(|_, value| !value.is_multiple_of(3));
                }
                assert_eq!(numbered.get(number), model.get(&number), "seed {seed}");
                assert_eq!(
                    (numbered.len(), numbered.first()),
                    (model.len(), model.iter().next().map(|(number, v)| (*number, v)))
                );
            }
            assert!(numbered.iter().eq(model.iter().map(|(number, value)| (*number, value))), "seed {seed}");
            assert!(numbered.drain().eq(model.into_values()) && numbered.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn one_that_stays_costs_no_room_for_those_that_went_after_it() {
        let mut numbered = Numbered::default();
        numbered.insert(1, ());
        for number in 2..100_000 {
            numbered.insert(number, ());
            numbered.remove(number);
        }
        assert!(numbered.places.len() <= VACANT + 3, "{}", numbered.places.len());
        assert_eq!(numbered.first(), Some((1, &())));
    }
}
