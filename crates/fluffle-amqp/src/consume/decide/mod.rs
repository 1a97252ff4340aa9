pub(crate) mod verdict;
