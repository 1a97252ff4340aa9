//! From a queue to a handler actor and back: decode, handle, settle.

pub(crate) mod acker;
pub(crate) mod acks;
pub(crate) mod actor;
pub(crate) mod at_most_once;
pub(crate) mod batch;
pub(crate) mod copy;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod draining;
pub(crate) mod envelope;
pub(crate) mod failure;
pub(crate) mod feed;
pub(crate) mod guard;
pub(crate) mod key_queues;
pub(crate) mod lane;
pub(crate) mod quarantine;
pub(crate) mod received;
pub(crate) mod retry;
pub(crate) mod seen;
pub(crate) mod settlement;
pub(crate) mod spec;
pub(crate) mod stats;
pub(crate) mod subscription;
pub(crate) mod tags;
pub(crate) mod turn;
pub(crate) mod watchdog;
