//! What can go wrong with a broker itself.

use std::{io, net::SocketAddr};

use thiserror::Error;

/// Why a broker did not start, or does not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("the broker cannot listen on {address}: choose a free port, or port 0 for any")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The system gives no thread, or no runtime for it.
    #[error("the broker cannot start its thread: free system resources and start again")]
    Thread(#[source] io::Error),
    /// The broker's thread has ended.
    #[error("the broker's thread has ended: start a new broker")]
    Gone,
}
