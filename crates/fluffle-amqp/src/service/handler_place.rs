//! Where the handlers of one consumer run: on threads of their own, or on the `io` thread until one of them blocks it.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::service::threads::HandlerThreads;

/// Where the handlers of one consumer run.
#[derive(Default)]
pub(crate) struct HandlerPlace {
    /// Unset while they run on `io`.
    threads: OnceLock<Arc<HandlerThreads>>,
    blocked_io: OnceLock<BlockedIo>,
}

/// Why the handlers of a consumer no longer run on the `io` thread, although
/// [`Consume::on_io`](crate::Consume::on_io) asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockedIo {
    /// When they began to move to threads of their own.
    pub at: Instant,
    /// How long the handler had blocked the `io` thread, in one call or in one poll of its future.
    pub took: Duration,
}

impl HandlerPlace {
    pub(super) fn on(threads: Arc<HandlerThreads>) -> Self {
        Self { threads: threads.into(), blocked_io: OnceLock::new() }
    }

    /// Which threads they are: the same value for all consumers that share them. `None` on `io`.
    pub(super) fn threads(&self) -> Option<*const HandlerThreads> {
        self.threads.get().map(Arc::as_ptr)
    }

    /// How late each of the consumer's threads is.
    pub(super) fn lags(&self) -> impl Iterator<Item = Duration> {
        self.threads.get().into_iter().flat_map(|threads| threads.lags())
    }

    /// The handlers leave `io` for `threads`, because one of them blocked it for so long. The first call counts.
    pub(super) fn leave_io(&self, took: Duration, threads: Arc<HandlerThreads>) {
        let _ = self.blocked_io.set(BlockedIo { at: Instant::now(), took });
        let _ = self.threads.set(threads);
    }

    pub(super) fn is_io(&self) -> bool {
        self.threads.get().is_none()
    }

    pub(super) fn blocked_io(&self) -> Option<BlockedIo> {
        self.blocked_io.get().copied()
    }
}
