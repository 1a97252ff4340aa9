//! Decides what becomes of each delivery, for every guarantee.

pub(crate) mod verdict;
