//! What is kept by delivery tag. Tags of one channel count up, so a queue in their order is all it takes.

use std::collections::VecDeque;

/// Vacant places that are borne before the rest moves together.
const SOME: usize = 32;

/// Values by delivery tag, in the order of the tags. Takes room for what it holds, however long the first of them stays.
pub(crate) struct Tags<V> {
    places: VecDeque<(u64, Option<V>)>,
    held: usize,
}

impl<V> Default for Tags<V> {
    fn default() -> Self {
        Self { places: VecDeque::new(), held: 0 }
    }
}

impl<V> Tags<V> {
    pub(crate) fn insert(&mut self, tag: u64, value: V) {
        match self.places.back() {
            Some((last, _)) if *last >= tag => self.insert_between(tag, value),
            _ => {
                self.places.push_back((tag, Some(value)));
                self.held += 1;
            }
        }
    }

    /// One that comes back to its place after others.
    fn insert_between(&mut self, tag: u64, value: V) {
        let old = match self.find(tag) {
            Ok(place) => self.places.get_mut(place).and_then(|(_, held)| held.replace(value)),
            Err(place) => {
                self.places.insert(place, (tag, Some(value)));
                None
            }
        };
        self.held += usize::from(old.is_none());
    }

    pub(crate) fn get(&self, tag: u64) -> Option<&V> {
        self.places.get(self.find(tag).ok()?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut V> {
        let place = self.find(tag).ok()?;
        self.places.get_mut(place)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, tag: u64) -> Option<V> {
        let place = self.find(tag).ok()?;
        let value = self.places.get_mut(place)?.1.take()?;
        self.held -= 1;
        while self.places.front().is_some_and(|(_, held)| held.is_none()) {
            self.places.pop_front();
        }
        if self.places.len() > 2 * self.held + SOME {
            self.places.retain(|(_, held)| held.is_some());
        }
        Some(value)
    }

    /// The lowest tag, and what it stands for.
    pub(crate) fn first(&self) -> Option<(u64, &V)> {
        self.iter().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.places.iter().filter_map(|(tag, held)| Some((*tag, held.as_ref()?)))
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

    /// Where it is, or would be.
    fn find(&self, tag: u64) -> Result<usize, usize> {
        // Without a vacancy before it, it is as far from the first as its tag is.
        let first = self.places.front().map_or(tag, |(first, _)| *first);
        let near = usize::try_from(tag.saturating_sub(first)).unwrap_or(usize::MAX);
        match self.places.get(near) {
            Some((found, _)) if *found == tag => Ok(near),
            _ => self.places.binary_search_by_key(&tag, |(found, _)| *found),
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
            let (mut tags, mut model, mut last) = (Tags::default(), BTreeMap::new(), 0);
            for _ in 0..500 {
                let tag = match random.u8(..4) {
                    0 => random.u64(..=last),
                    _ => {
                        last += 1;
                        last
                    }
                };
                if random.u8(..5) < 3 {
                    tags.insert(tag, seed + tag);
                    model.insert(tag, seed + tag);
                } else {
                    let some = random.u64(last.saturating_sub(20)..=last);
                    assert_eq!(tags.remove(some), model.remove(&some), "seed {seed}");
                }
                assert_eq!(tags.get(tag), model.get(&tag), "seed {seed}");
                assert_eq!((tags.len(), tags.first()), (model.len(), model.iter().next().map(|(tag, v)| (*tag, v))));
            }
            assert!(tags.iter().eq(model.iter().map(|(tag, value)| (*tag, value))), "seed {seed}");
            assert!(tags.drain().eq(model.into_values()) && tags.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn one_that_stays_costs_no_room_for_those_that_went_after_it() {
        let mut tags = Tags::default();
        tags.insert(1, ());
        for tag in 2..100_000 {
            tags.insert(tag, ());
            tags.remove(tag);
        }
        assert!(tags.places.len() <= SOME + 3, "{}", tags.places.len());
        assert_eq!(tags.first(), Some((1, &())));
    }
}
