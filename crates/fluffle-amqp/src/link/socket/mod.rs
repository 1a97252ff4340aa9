//! One socket to one endpoint: how it is opened, closed and cut.

mod candidates;
mod connect;
mod open;
mod race;

pub(crate) use connect::{ConnectError, connect};
pub(crate) use open::{Socket, close_channel};
