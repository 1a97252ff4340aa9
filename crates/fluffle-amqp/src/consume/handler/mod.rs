//! The handler's side: gives messages to handler actors, and turns their answers into outcomes.

pub(crate) mod adapter;
pub(crate) mod answer;
pub(crate) mod around;
pub(crate) mod batch;
pub(crate) mod calls;
pub(crate) mod caused_by;
pub(crate) mod crash_log;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod duty;
pub(crate) mod handles;
pub(crate) mod on_io;
