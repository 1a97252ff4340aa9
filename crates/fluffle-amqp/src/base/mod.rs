//! Types and functions for every layer: timers, shutdown deadlines, properties and headers of a message, requests,
//! the failure of a handler, and events with their observers. Nothing here imports another layer, and nothing here uses
//! a connection.

pub(crate) mod attempt_report;
pub(crate) mod clock;
pub(crate) mod consumer_state;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod labels;
pub(crate) mod numbered;
pub(crate) mod observer;
pub(crate) mod observer_panics;
pub(crate) mod one_of;
pub(crate) mod payload;
pub(crate) mod published;
pub(crate) mod raw;
pub(crate) mod requests;
pub(crate) mod secret;
pub(crate) mod trace;
pub(crate) mod written;
