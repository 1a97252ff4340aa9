//! The handler's side: what a handler is given, and what its answer means.

pub(crate) mod adapter;
pub(crate) mod answer;
pub(crate) mod around;
pub(crate) mod batch;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod duty;
