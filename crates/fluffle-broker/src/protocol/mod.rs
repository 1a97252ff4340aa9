//! The wire: sockets, frames, handshakes, connections and channels as state machines.

mod alarm;
mod auth;
mod channel;
mod connection;
mod encode;
mod fault;
mod frame;
mod handshake;
mod incoming;
mod link;
mod listener;
mod method;
mod output;
mod shared;

pub(crate) use self::{
    alarm::keep_alarm,
    listener::accept,
    shared::{Settings, Shared, keep_time},
};
