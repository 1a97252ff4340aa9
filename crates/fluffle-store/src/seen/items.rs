//! Items of a batch: their ids, and sets of them.

/// The id of an item.
pub(crate) fn id_of(batch: &str, item: u32) -> String {
    format!("{batch}/{item}")
}

/// The batch and the item, if `id` is what [`id_of`] makes of them. No two pairs have the same id, so it does not
/// matter whether there is such a batch.
pub(super) fn item_of(id: &str) -> Option<(&str, u32)> {
    let (batch, number) = id.rsplit_once('/')?;
    let is_canonical = number == "0" || number.starts_with(|digit| matches!(digit, '1'..='9'));
    Some((batch, number.parse().ok().filter(|_| is_canonical)?))
}

/// A set of items, as ranges: sorted, with gaps between them. Both ends belong to a range.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Items(Vec<(u32, u32)>);

impl Items {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    pub(crate) fn contains(&self, item: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= item);
        self.0[..after].last().is_some_and(|(_, last)| item <= *last)
    }

    pub(super) fn remove(&mut self, item: u32) {
        let without = |&(first, last): &(u32, u32)| match (first..=last).contains(&item) {
            true => [(first < item).then(|| (first, item - 1)), (item < last).then(|| (item + 1, last))],
            false => [Some((first, last)), None],
        };
        self.0 = self.0.iter().flat_map(without).flatten().collect();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The union of `sets` and `items`.
    pub(super) fn union<'a>(sets: impl Iterator<Item = &'a Self>, items: impl Iterator<Item = u32>) -> Self {
        let ranges = sets.flat_map(|set| set.0.iter().copied());
        let mut ranges: Vec<_> = ranges.chain(items.map(|item| (item, item))).collect();
        ranges.sort_unstable();
        let mut union = Self::default();
        ranges.into_iter().for_each(|range| union.push(range));
        union
    }

    /// Adds a range that begins behind the beginning of the last one.
    fn push(&mut self, (first, last): (u32, u32)) {
        match self.0.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => self.0.push((first, last)),
        }
    }

    /// For each range the gap before it and its length less one, as numbers of seven bits in each byte, the lowest
    /// first; all but the last byte of a number have the eighth bit.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * self.0.len());
        let mut end = 0;
        for (first, last) in &self.0 {
            for mut number in [first - end, last - first] {
                while number >= 0x80 {
                    bytes.push(number as u8 | 0x80);
                    number >>= 7;
                }
                bytes.push(number as u8);
            }
            end = *last;
        }
        bytes
    }

    /// From what [`to_bytes`](Self::to_bytes) has written. Items behind damage are left out, so they are unknown.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut items = Self::default();
        let (mut bytes, mut end) = (bytes.iter(), 0_u32);
        let mut number = || {
            let mut number = 0;
            for shift in (0..).step_by(7).take(5) {
                let byte = bytes.next()?;
                number |= u32::from(byte & 0x7f) << shift;
                if *byte < 0x80 {
                    return Some(number);
                }
            }
            None
        };
        let mut range = || {
            let first = end.checked_add(number()?)?;
            end = first.checked_add(number()?)?;
            Some((first, end))
        };
        while let Some(range) = range() {
            items.push(range);
        }
        items
    }
}

impl FromIterator<u32> for Items {
    fn from_iter<I: IntoIterator<Item = u32>>(items: I) -> Self {
        Self::union(std::iter::empty(), items.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn an_id_is_that_of_one_item_at_most() {
        assert_eq!(item_of("6:orders/m1/0"), Some(("6:orders/m1", 0)));
        assert_eq!(item_of("/4294967295"), Some(("", u32::MAX)));
        for other in
            ["12", "m/", "m/01", "m/00", "m/+1", "m/-1", "m/ 1", "m/1 ", "m/4294967296", "m/99999999999", "m/x"]
        {
            assert_eq!(item_of(other), None, "{other}");
        }
    }

    #[test]
    fn damage_leaves_out_what_is_behind_it() {
        let written = Items::from_iter([1, 2, 3, 900, u32::MAX]).to_bytes();
        for cut in 0..written.len() {
            assert!(Items::from_bytes(&written[..cut]).iter().all(|item| [1, 2, 3, 900].contains(&item)));
        }
        assert_eq!(Items::from_bytes(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Items::default());
    }

    proptest! {
        #[test]
        fn a_set_of_items_is_a_set(
            added in vec(prop_oneof![0_u32..40, u32::MAX - 20..=u32::MAX], 0..60),
            removed in vec(prop_oneof![0_u32..40, u32::MAX - 20..=u32::MAX], 0..20),
        ) {
            let mut model: BTreeSet<u32> = added.iter().copied().collect();
            let mut items: Items = added.into_iter().collect();
            for item in removed {
                model.remove(&item);
                items.remove(item);
                prop_assert_eq!(items.contains(item), false);
            }
            prop_assert_eq!(items.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert!(model.iter().all(|item| items.contains(*item)));
            prop_assert_eq!(items.len(), model.len() as u64);
            prop_assert_eq!(items.is_empty(), model.is_empty());
            prop_assert_eq!(Items::from_bytes(&items.to_bytes()), items);
        }
    }
}
