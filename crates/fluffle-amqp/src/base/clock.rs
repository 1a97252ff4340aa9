//! Timers for what an application awaits, on whatever thread that is.
//!
//! A tokio timer belongs to the runtime of the thread that makes it, and making one without a runtime is a panic. A
//! handle such as a publisher's may be awaited under any executor. So a thread without a runtime uses the timers of one
//! that is kept for this.

use std::{
    sync::{OnceLock, mpsc},
    thread,
};

use futures_util::{
    FutureExt,
    future::{Either, ready},
};
use tokio::{
    runtime::{Builder, Handle},
    time::{self, Instant},
};

/// The deadline passed first.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// `future`, up to `deadline`. Where no timer can be had, because a thread for it cannot be started, the deadline
/// counts as passed.
pub(crate) fn timeout_at<F: Future>(deadline: Instant, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    let limited = with_timers(|| time::timeout_at(deadline, future));
    match limited {
        Some(limited) => Either::Left(limited.map(|result| result.map_err(|_| Elapsed))),
        None => Either::Right(ready(Err(Elapsed))),
    }
}

/// Waits until `at`; where no timer can be had, for ever: to be used below a [`timeout_at`], which does not wait there.
pub(crate) async fn sleep_until(at: Instant) {
    match with_timers(|| time::sleep_until(at)) {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn with_timers<T>(make: impl FnOnce() -> T) -> Option<T> {
    if Handle::try_current().is_ok() {
        return Some(make());
    }
    let _entered = kept()?.enter();
    Some(make())
}

/// The runtime for threads that have none: a thread that runs its timers, started when it is first needed, for as long
/// as the process lives.
fn kept() -> Option<&'static Handle> {
    static KEPT: OnceLock<Option<Handle>> = OnceLock::new();
    KEPT.get_or_init(|| {
        let (tell, told) = mpsc::sync_channel(1);
        let started = thread::Builder::new().name("fluffle-clock".to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => {
                    let _ = tell.send(Ok(runtime.handle().clone()));
                    runtime.block_on(std::future::pending::<()>());
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        let handle = started.and_then(|_| told.recv().map_err(std::io::Error::other)?);
        handle
            .inspect_err(|error| tracing::error!(%error, "no thread for the timers of threads without a runtime"))
            .ok()
    })
    .as_ref()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_without_a_runtime_has_timers() {
        let begun = Instant::now();
        let limit = Duration::from_millis(20);
        let timed_out = futures_executor::block_on(timeout_at(begun + limit, std::future::pending::<()>()));
        assert!(timed_out.is_err());
        futures_executor::block_on(sleep_until(begun + 2 * limit));
        assert!(begun.elapsed() >= 2 * limit);
        let in_time = futures_executor::block_on(timeout_at(Instant::now() + Duration::from_secs(60), ready(7)));
        assert_eq!(in_time.ok(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_with_a_runtime_uses_that_ones() {
        let long = Duration::from_secs(3600);
        assert!(timeout_at(Instant::now() + long, std::future::pending::<()>()).await.is_err());
    }
}
