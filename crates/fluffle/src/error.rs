//! [`Error`]: why a service could not start, or ended.

use std::fmt;

use fluffle_amqp::{
    BrokerSettingsError, PublishError, RequestError, RetryError, ServiceEnd, ServiceError, TlsError, TopologyError,
    UriError,
};
use fluffle_supervise::PolicyError;

/// Why a service could not start, or ended by itself.
///
/// `Debug` prints the same single line as `Display`, so that `fn main() -> Result<(), fluffle::Error>` ends with that
/// line and exit code 1.
#[non_exhaustive]
pub enum Error {
    /// The broker's URI is invalid.
    Uri(UriError),
    /// A TLS file cannot be used.
    Tls(TlsError),
    /// The settings of the broker cannot be used.
    BrokerSettings(BrokerSettingsError),
    /// The topology is invalid.
    Topology(TopologyError),
    /// A retry policy is invalid.
    Retry(RetryError),
    /// A backoff or restart intensity is invalid.
    Policy(PolicyError),
    /// A publisher, requester or consumer could not be added.
    Service(ServiceError),
    /// The service gave up: the first cause, with the whole chain behind it.
    Ended(ServiceEnd),
    /// The embedded broker did not start, or a call to it failed (no such queue, not settled in time).
    #[cfg(feature = "embedded")]
    Embedded(fluffle_broker::BrokerError),
    /// A fault or fault rule was refused.
    #[cfg(feature = "embedded")]
    Fault(fluffle_broker::FaultError),
    /// The status server cannot be started.
    #[cfg(feature = "telemetry")]
    Status(fluffle_telemetry::status::StatusError),
    /// An error of the application's own.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error of the application's own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Uri(error) => error.fmt(f),
            Error::Tls(error) => error.fmt(f),
            Error::BrokerSettings(error) => error.fmt(f),
            Error::Topology(error) => error.fmt(f),
            Error::Retry(error) => error.fmt(f),
            Error::Policy(error) => error.fmt(f),
            Error::Service(error) => error.fmt(f),
            Error::Ended(error) => error.fmt(f),
            #[cfg(feature = "embedded")]
            Error::Embedded(error) => error.fmt(f),
            #[cfg(feature = "embedded")]
            Error::Fault(error) => error.fmt(f),
            #[cfg(feature = "telemetry")]
            Error::Status(error) => error.fmt(f),
            Error::Other(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Uri(error) => error.source(),
            Error::Tls(error) => error.source(),
            Error::BrokerSettings(error) => error.source(),
            Error::Topology(error) => error.source(),
            Error::Retry(error) => error.source(),
            Error::Policy(error) => error.source(),
            Error::Service(error) => error.source(),
            Error::Ended(error) => error.source(),
            #[cfg(feature = "embedded")]
            Error::Embedded(error) => error.source(),
            #[cfg(feature = "embedded")]
            Error::Fault(error) => error.source(),
            #[cfg(feature = "telemetry")]
            Error::Status(error) => error.source(),
            Error::Other(error) => error.source(),
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),* $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(
    Uri(UriError),
    Tls(TlsError),
    BrokerSettings(BrokerSettingsError),
    Topology(TopologyError),
    Retry(RetryError),
    Policy(PolicyError),
    Service(ServiceError),
    Ended(ServiceEnd),
);

#[cfg(feature = "embedded")]
from!(Embedded(fluffle_broker::BrokerError), Fault(fluffle_broker::FaultError));

#[cfg(feature = "telemetry")]
from!(Status(fluffle_telemetry::status::StatusError));

/// Wraps the whole publish error, its message included, in [`Error::Other`].
impl<T: Send + Sync + 'static> From<PublishError<T>> for Error {
    fn from(error: PublishError<T>) -> Self {
        Self::other(error)
    }
}

impl<Q: Send + Sync + 'static> From<RequestError<Q>> for Error {
    fn from(error: RequestError<Q>) -> Self {
        Self::other(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}
