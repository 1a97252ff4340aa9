pub(crate) mod adapter;
pub(crate) mod batch;
pub(crate) mod caused_by;
pub(crate) mod delivery;
pub(crate) mod dispatch;
