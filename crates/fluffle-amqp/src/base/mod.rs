//! What every layer may use: numbers, texts, clocks and the failure of a handler. Nothing here knows a connection.

pub(crate) mod clock;
pub(crate) mod drain;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod labels;
pub(crate) mod numbered;
pub(crate) mod payload;
pub(crate) mod requests;
pub(crate) mod secret;
