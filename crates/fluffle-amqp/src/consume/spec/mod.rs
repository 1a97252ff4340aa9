pub(crate) mod consume;
pub(crate) mod contradictions;
pub(crate) mod retry;
pub(crate) mod side_queues;
