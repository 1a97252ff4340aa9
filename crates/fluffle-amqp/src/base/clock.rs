//! Timers for futures that an application awaits, on any thread.
//!
//! A tokio timer belongs to the runtime of the thread that makes it, and making a timer without a runtime panics. An
//! application may await a handle, such as a publisher's, under any executor. A thread without a runtime therefore uses
//! the timers of a runtime that this module starts.

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

/// The deadline passed before the future was ready.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Waits for `future` until `deadline`. If there is no timer, because its thread cannot be started, the deadline counts
/// as passed.
pub(crate) fn timeout_at<F: Future>(deadline: Instant, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    let limited = with_timers(|| time::timeout_at(deadline, future));
    match limited {
        Some(limited) => Either::Left(limited.map(|result| result.map_err(|_| Elapsed))),
        None => Either::Right(ready(Err(Elapsed))),
    }
}

/// Waits until `at`. If there is no timer, this waits for ever: call it inside a [`timeout_at`], which does not wait
/// without a timer.
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
    let _entered = timer_runtime()?.enter();
    Some(make())
}

/// The runtime for threads that have none. Its thread runs the timers; it starts at first use and lives as long as the
/// process.
fn timer_runtime() -> Option<&'static Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let (sender, receiver) = mpsc::sync_channel(1);
            let started =
                thread::Builder::new().name("fluffle-clock".to_owned()).spawn(
                    move || match Builder::new_current_thread().enable_time().build() {
                        Ok(runtime) => {
                            let _ = sender.send(Ok(runtime.handle().clone()));
                            runtime.block_on(std::future::pending::<()>());
                        }
                        Err(error) => drop(sender.send(Err(error))),
                    },
                );
            let handle = started.and_then(|_| receiver.recv().map_err(std::io::Error::other)?);
            let said = "the timer thread cannot be started: outside a tokio runtime every deadline counts as passed";
            handle.inspect_err(|error| tracing::error!(%error, "{said}")).ok()
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
