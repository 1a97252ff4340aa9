//! What a broker does, as tests that any broker can be put through.
//!
//! Each behaviour is one function, `async fn behaviour(broker: &Target)`, in a module of `tests/conformance/` named after
//! its noun. `tests/conformance/main.rs` lists them once and makes of each a test for every broker: `real::queues::…` against
//! RabbitMQ, and the same name under another half for another broker. The two agree when both halves are green;
//! where they do not, [`KNOWN_DIFFERENCES`] says so and why.
//!
//! RabbitMQ is the judge: an expectation is what RabbitMQ 3.10 did, never what a specification promised. What RabbitMQ 4 does
//! otherwise is in [`CHANGED_IN_4`]; `cargo xtask rabbitmq4` puts one on this machine, and says how to run the suite on it.
//!
//! This library is what the behaviours are written with: a [`Target`] to speak to, a [`Chan`] for what a client library can
//! express, a [`Wire`] for what only frames can, a [`raw::RawClient`] for what not even a frame parser can.
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

/// How long anything awaited may take. Only a failing test ever waits this long.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Awaits `future` for at most [`LIMIT`].
///
/// # Panics
///
/// When the time is over, naming `what` did not happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not happen within {LIMIT:?}: {what}"),
    }
}

/// Waits until `probe` says yes, for at most [`LIMIT`]: for what a broker does in its own time and tells nobody.
///
/// # Panics
///
/// When the time is over, naming `what` did not happen.
pub async fn eventually(what: &str, probe: impl AsyncFn() -> bool) {
    within(what, async {
        while !probe().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
