//! The one bounded await on lapin: no operation of the client waits for ever.

use std::{io, time::Duration};

use tokio::time::timeout;

use crate::link::class::ClientError;

/// How long the broker may take to answer one operation: opening a channel, a declaration, `basic.qos`, `basic.consume`
/// and the like. Long enough for a broker under load, and short enough that a supervisor soon starts afresh.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an operation on lapin has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// The broker refused the operation, or the channel or connection failed.
    #[error("{}", ClientError(.0.clone()))]
    Failed(lapin::Error),
    /// The broker did not answer within this limit.
    #[error("the broker did not answer within {0:?}")]
    Unanswered(Duration),
}

/// Waits for `operation` for at most `limit`.
///
/// After the limit the operation is dropped and the error is [`OperationError::Unanswered`]. The broker may still carry
/// it out: close the channel or the connection before you try again.
///
/// A caller that passes on lapin's errors converts the error into a [`lapin::Error`]: an elapsed limit becomes an I/O
/// error of kind [`TimedOut`](io::ErrorKind::TimedOut), which `classify` calls transient.
///
/// lapin itself has no limits: connect, close and any other operation can wait for ever on a silent peer (lapin #409,
/// #437, #470).
///
/// Cancellation: dropping this future drops the operation, as the limit does.
pub(crate) async fn bounded<T>(
    limit: Duration,
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, OperationError> {
    match timeout(limit, operation).await {
        Ok(result) => result.map_err(OperationError::Failed),
        Err(_) => Err(OperationError::Unanswered(limit)),
    }
}

impl From<OperationError> for lapin::Error {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Failed(error) => error,
            OperationError::Unanswered(_) => io::Error::from(io::ErrorKind::TimedOut).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::link::class::{Class, Operation, classify};

    #[tokio::test(start_paused = true)]
    async fn an_operation_without_an_answer_ends_at_its_limit_as_a_transient_timeout() {
        let limit = Duration::from_secs(10);
        let begun = tokio::time::Instant::now();
        let error = bounded(limit, pending::<lapin::Result<()>>()).await.unwrap_err();
        assert_eq!(begun.elapsed(), limit);
        assert_eq!(error.to_string(), "the broker did not answer within 10s");
        let error = lapin::Error::from(error);
        assert_eq!(classify(&error, Operation::Consume), Class::Transient);
        assert!(matches!(error.kind(), lapin::ErrorKind::IOError(io) if io.kind() == io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn an_answer_in_time_is_passed_on() {
        let limit = Duration::from_secs(10);
        assert_eq!(bounded(limit, async { Ok(7) }).await.unwrap(), 7);
        let refused = async { Err::<(), _>(lapin::ErrorKind::ChannelsLimitReached.into()) };
        let error = lapin::Error::from(bounded(limit, refused).await.unwrap_err());
        assert!(matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached), "{error}");
    }
}
