pub(crate) mod acker;
pub(crate) mod acks;
pub(crate) mod at_most_once;
pub(crate) mod copy;
pub(crate) mod settler;
