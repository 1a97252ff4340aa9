//! What the experiments share.

use std::{error::Error, time::Duration};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Runs what blocks on another thread.
pub(crate) async fn blocking<T, E>(act: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Into<Failure> + Send + 'static,
{
    tokio::task::spawn_blocking(act).await?.map_err(Into::into)
}
