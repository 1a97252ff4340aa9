//! A conformance suite: the behaviours of a broker, as tests that run against any broker.
//!
//! Each behaviour is one function, `async fn behaviour(broker: &Target)`, in a module of `tests/conformance/` named
//! after its subject. `tests/conformance/main.rs` lists them once, and turns each into one test for every broker:
//! `real::queues::…` against RabbitMQ, and the same name in another half for another broker. The brokers agree if both
//! halves pass; [`KNOWN_DIFFERENCES`] lists the exceptions and their reasons.
//!
//! RabbitMQ decides: an expectation is what RabbitMQ 3.10 does, not what a specification says. [`CHANGED_IN_4`] lists
//! what RabbitMQ 4 does differently; `cargo xtask rabbitmq4` installs RabbitMQ 4, and prints how to run the suite on
//! it.
//!
//! This library has the tools for behaviours: a [`Target`] to connect to, a [`Chan`] for everything that a client
//! library can express, a [`Wire`] for single frames, and a [`raw::RawClient`] for bytes that no frame parser accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is test code")]

mod chan;
mod differences;
pub mod raw;
mod run;
mod subscription;
mod table;
mod target;
mod wire;

pub use chan::{Chan, Refusal, refusal, text};
pub use differences::{CHANGED_IN_4, Difference, KNOWN_DIFFERENCES};
pub use run::{Behaviour, Outcome, judge, run};
pub use subscription::Subscription;
pub use table::{IntoValue, string};
pub use target::{Half, Target};
pub use wire::{Content, Frame, Method, Wire, start_ok};

use std::time::Duration;

/// The limit of every wait. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Awaits `future` for at most [`LIMIT`].
///
/// # Panics
///
/// If the time is over; the panic names `what` did not happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not happen within {LIMIT:?}: {what}"),
    }
}

/// Waits until `probe` returns `true`, for at most [`LIMIT`]. For effects that a broker does not report.
///
/// # Panics
///
/// If the time is over; the panic names `what` did not happen.
pub async fn eventually(what: &str, probe: impl AsyncFn() -> bool) {
    within(what, async {
        while !probe().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
