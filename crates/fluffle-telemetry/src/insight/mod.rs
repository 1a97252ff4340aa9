//! What the numbers mean: the ledger, the verdict on a queue, the stories of restarts, fifteen minutes of history.

pub(crate) mod history;
pub(crate) mod ledger;
pub(crate) mod ring;
pub(crate) mod samples;
pub(crate) mod stories;
pub(crate) mod verdict;
pub(crate) mod window;
