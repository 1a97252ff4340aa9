//! What came: the immutable message, its identity, and what is believed of its history.

pub(crate) mod accessors;
pub(crate) mod deliveries;
pub(crate) mod delivery_info;
pub(crate) mod identity;
pub(crate) mod item;
pub(crate) mod received;
pub(crate) mod settled;
