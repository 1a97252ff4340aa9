//! The order of the queues.

use std::cmp::Ordering;

use clap::ValueEnum;

use crate::top::look::Row;

/// The column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// Messages that wait.
    Ready,
    /// Messages in the hand of consumers.
    Unacked,
    /// Consumers.
    Consumers,
    /// Messages a second that are published.
    In,
    /// Messages a second that are delivered.
    Delivered,
    /// Messages a second that are acknowledged.
    Acked,
    /// The age of the oldest message.
    Oldest,
    /// The name.
    Name,
}

impl Key {
    /// The column behind this one.
    pub(crate) fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|key| *key == self).unwrap_or(0);
        all.get((at + 1) % all.len()).copied().unwrap_or(Self::Ready)
    }

    fn value(self, row: &Row) -> Option<f64> {
        let whole = |number: Option<u64>| number.map(|number| number as f64);
        match self {
            Self::Ready => whole(row.ready),
            Self::Unacked => whole(row.unacked),
            Self::Consumers => whole(row.consumers),
            Self::In => row.in_rate,
            Self::Delivered => row.delivered_rate,
            Self::Acked => row.acked_rate,
            Self::Oldest => whole(row.oldest_seconds),
            Self::Name => None,
        }
    }
}

/// Sorts: the largest first, names from a to z; `reversed` the other way round. What is not known is always last.
pub(crate) fn sort(rows: &mut [&Row], key: Key, reversed: bool) {
    let turned = |order: Ordering| if reversed { order.reverse() } else { order };
    rows.sort_by(|a, b| {
        if key == Key::Name {
            return turned(a.name.cmp(&b.name));
        }
        let by_value = match (key.value(a), key.value(b)) {
            (Some(a), Some(b)) => turned(b.total_cmp(&a)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        by_value.then_with(|| a.name.cmp(&b.name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_first_and_the_unknown_last_in_both_directions() {
        let row = |name: &str, ready| Row { name: name.to_owned(), ready, ..Row::default() };
        let rows = [row("b", Some(1)), row("unknown", None), row("a", Some(1)), row("c", Some(9))];
        let sorted = |key, reversed| {
            let mut rows: Vec<&Row> = rows.iter().collect();
            sort(&mut rows, key, reversed);
            rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(Key::Ready, false), ["c", "a", "b", "unknown"]);
        assert_eq!(sorted(Key::Ready, true), ["a", "b", "c", "unknown"]);
        assert_eq!(sorted(Key::Name, false), ["a", "b", "c", "unknown"]);
    }
}
