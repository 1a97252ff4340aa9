//! Errors of the broker itself.

use std::{fmt, io, net::SocketAddr, time::Duration};

use thiserror::Error;

use crate::snapshot::{QueueSnapshot, Snapshot};

/// Why a broker did not start, or does not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The broker cannot listen on the address.
    #[error("the broker cannot listen on {address}: {source}; choose a free port, or port 0 for any")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system provides no thread, or no runtime for it.
    #[error("the broker cannot start its thread: {0}; free system resources and start again")]
    Thread(#[source] io::Error),
    /// The broker's thread has ended.
    #[error("the broker's thread has ended: start a new broker")]
    Gone,
    /// No queue has that name.
    #[error("the broker has no queue '{queue}': declare it first, or look at snapshot() for what there is")]
    NoQueue {
        /// The name.
        queue: String,
    },
    /// The expected state was not reached in time.
    #[error("the broker did not reach the expected state within {limit:?}; its queues now: {}", list(&state.queues))]
    NotYet {
        /// How long the call waited.
        limit: Duration,
        /// The state at the end.
        state: Box<Snapshot>,
    },
    /// Messages are still unsettled.
    #[error("not settled within {limit:?}: {}", list(queues))]
    Unsettled {
        /// How long the call waited.
        limit: Duration,
        /// The queues that are not settled.
        queues: Vec<QueueSnapshot>,
    },
}

fn list(queues: &[QueueSnapshot]) -> impl fmt::Display {
    let lines: Vec<String> = queues.iter().map(QueueSnapshot::to_string).collect();
    lines.join("; ")
}
