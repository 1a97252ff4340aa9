//! Types and functions for every layer: timers, shutdown deadlines, properties and headers of a message, requests, and
//! the failure of a handler. Nothing here imports another layer, and nothing here uses a connection.

pub(crate) mod clock;
pub(crate) mod drain;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod labels;
pub(crate) mod numbered;
pub(crate) mod payload;
pub(crate) mod requests;
pub(crate) mod secret;
