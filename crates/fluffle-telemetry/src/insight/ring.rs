//! The last few of something.

use std::collections::VecDeque;

/// Keeps the last `limit` values.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    values: VecDeque<T>,
    limit: usize,
}

impl<T> Ring<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { values: VecDeque::with_capacity(limit), limit: limit.max(1) }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.values.len() == self.limit {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Takes out what `is_over` says.
    pub(crate) fn remove_if(&mut self, mut is_over: impl FnMut(&T) -> bool) {
        self.values.retain(|value| !is_over(value));
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.values.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.values.iter_mut()
    }
}
