//! What becomes of a delivery: every verdict of every guarantee.

pub(crate) mod verdict;
