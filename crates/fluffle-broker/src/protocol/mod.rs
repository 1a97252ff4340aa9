//! The wire: sockets, frames, handshakes, connections and channels as state machines.

mod auth;
mod channel;
mod connection;
mod encode;
mod frame;
mod handshake;
mod link;
mod listener;
mod method;
mod output;
mod shared;

pub(crate) use self::{
    listener::accept,
    shared::{Settings, Shared, keep_time},
};
