//! What the window answers to one question, and changes for it.

use super::{
    items::{Items, item_of},
    table::{BatchRow, Changes, Oldest, Row},
};

/// The time of a group of commands, and from which age on an id counts as unknown, even if its row still exists. In
/// milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Time {
    pub(super) now: u64,
    pub(super) keep: u64,
}

impl Time {
    fn is_old(self, at: u64) -> bool {
        self.now.saturating_sub(at) >= self.keep
    }
}

/// The rows that have an id.
struct Found<'a> {
    alone: Option<Row>,
    /// The rows of its batch, if it is the id of an item.
    batches: Vec<BatchRow>,
    item: u32,
    known: bool,
    id: &'a str,
}

impl<'a> Found<'a> {
    fn of(changes: &Changes<'_>, id: &'a str, time: Time) -> Result<Self, rusqlite::Error> {
        let alone = changes.find(id)?;
        let (mut batches, mut item) = (Vec::new(), 0);
        if let Some((batch, number)) = item_of(id) {
            (batches, item) = (changes.batches(batch)?, number);
            batches.retain(|batch| batch.items.contains(item));
        }
        let mut rows = alone.iter().chain(batches.iter().map(|batch| &batch.row));
        let known = rows.any(|row| !time.is_old(row.at));
        Ok(Self { alone, batches, item, known, id })
    }

    fn remove(&self, changes: &mut Changes<'_>) -> Result<(), rusqlite::Error> {
        if let Some(row) = &self.alone {
            changes.remove(row)?;
        }
        self.batches.iter().try_for_each(|batch| changes.remove_item(batch, self.item))
    }
}

/// Whether `id` is known.
pub(super) fn contains(changes: &Changes<'_>, id: &str, time: Time) -> Result<bool, rusqlite::Error> {
    Ok(Found::of(changes, id, time)?.known)
}

/// Inserts `id`. True if it was not known.
pub(super) fn insert(changes: &mut Changes<'_>, id: &str, time: Time) -> Result<bool, rusqlite::Error> {
    let found = Found::of(changes, id, time)?;
    if !found.known {
        // Rows that are too old.
        found.remove(changes)?;
        changes.insert(found.id, time.now)?;
    }
    Ok(!found.known)
}

/// Removes `id`. True if it was known.
pub(super) fn remove(changes: &mut Changes<'_>, id: &str, time: Time) -> Result<bool, rusqlite::Error> {
    let found = Found::of(changes, id, time)?;
    found.remove(changes)?;
    Ok(found.known)
}

/// The rows that have items of a batch.
struct FoundItems {
    batches: Vec<BatchRow>,
    alone: Vec<(u32, Row)>,
}

impl FoundItems {
    fn of(changes: &Changes<'_>, batch: &str, items: &[u32]) -> Result<Self, rusqlite::Error> {
        Ok(Self { batches: changes.batches(batch)?, alone: changes.alone(batch, items)? })
    }

    /// The known ones.
    fn known(&self, time: Time) -> Items {
        let sets = self.batches.iter().filter(|batch| !time.is_old(batch.row.at)).map(|batch| &batch.items);
        Items::union(sets, self.alone.iter().filter(|(_, row)| !time.is_old(row.at)).map(|(item, _)| *item))
    }

    /// Removes the rows that are too old.
    fn remove_old(&self, changes: &mut Changes<'_>, time: Time) -> Result<(), rusqlite::Error> {
        for old in self.batches.iter().filter(|batch| time.is_old(batch.row.at)) {
            changes.remove_batch(&old.row, old.items.len())?;
        }
        for (_, old) in self.alone.iter().filter(|(_, row)| time.is_old(row.at)) {
            changes.remove(old)?;
        }
        Ok(())
    }
}

/// Which of these items of a batch are known.
pub(super) fn contains_items(
    changes: &Changes<'_>,
    batch: &str,
    items: &[u32],
    time: Time,
) -> Result<Vec<bool>, rusqlite::Error> {
    let known = FoundItems::of(changes, batch, items)?.known(time);
    Ok(items.iter().map(|item| known.contains(*item)).collect())
}

/// Inserts items of a batch. Returns for each whether it was not known.
pub(super) fn insert_items(
    changes: &mut Changes<'_>,
    batch: &str,
    items: &[u32],
    time: Time,
) -> Result<Vec<bool>, rusqlite::Error> {
    let found = FoundItems::of(changes, batch, items)?;
    found.remove_old(changes, time)?;
    let known = found.known(time);
    let mut new: Vec<_> = items.iter().map(|item| !known.contains(*item)).collect();
    let mut inserted: Items = items.iter().zip(&new).filter(|(_, new)| **new).map(|(item, _)| *item).collect();
    if !inserted.is_empty() {
        changes.insert_items(batch, &inserted, time.now)?;
    }
    if inserted.len() < new.iter().filter(|new| **new).count() as u64 {
        // An item that is given twice is new once.
        for (item, new) in items.iter().zip(&mut new).filter(|(_, new)| **new) {
            *new = inserted.contains(*item);
            inserted.remove(*item);
        }
    }
    Ok(new)
}

/// Removes the oldest ids: those beyond the number, and those past their age. Removes at most `at_most` rows, so a
/// lowered limit is reached in steps. Items of a batch that were inserted together go when none of them is among the
/// newest `max_ids`.
pub(super) fn prune(
    changes: &mut Changes<'_>,
    max_ids: u64,
    time: Time,
    at_most: usize,
) -> Result<(), rusqlite::Error> {
    for _ in 0..at_most {
        match changes.oldest()? {
            Some(Oldest::Id(row)) if changes.ids > max_ids || time.is_old(row.at) => changes.remove(&row)?,
            Some(Oldest::Batch(row, count)) if changes.ids >= max_ids + count || time.is_old(row.at) => {
                changes.remove_batch(&row, count)?;
            }
            _ => break,
        }
    }
    Ok(())
}
