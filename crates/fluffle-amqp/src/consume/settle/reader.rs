//! Keeps how far a reader has come in its stream.

use std::{future::pending, sync::Arc, time::SystemTime};

use futures_util::future::BoxFuture;
use tokio::{
    sync::OnceCell,
    time::{sleep, timeout},
};

use crate::{
    consume::{
        message::progress::{Progress, ReaderNames, StreamPosition},
        spec::{
            offset_store::OffsetError,
            stream::{StreamOffset, StreamReader},
        },
    },
    link::bounded::OPERATION_TIMEOUT,
};

/// The waits between attempts to reach a store that fails. They double from the first to the longest.
const FIRST_WAIT: std::time::Duration = std::time::Duration::from_millis(100);
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// How far the clocks of this host and of the broker may be apart when a reader that has read nothing subscribes again.
const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(10);

/// A reader of a stream. It outlives every channel of its consumer.
pub(crate) struct Reader {
    pub(crate) spec: StreamReader,
    pub(crate) names: Arc<ReaderNames>,
    pub(crate) progress: Arc<Progress>,
    /// Set once the store has said what it keeps.
    loaded: OnceCell<()>,
    /// When the reader subscribed for the first time.
    first_begun: OnceCell<SystemTime>,
}

/// Where a subscription begins, as the broker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginAt {
    First,
    Last,
    Next,
    Offset(u64),
    /// Seconds since 1970.
    Timestamp(u64),
}

impl Reader {
    pub(crate) fn new(spec: &StreamReader) -> Arc<Self> {
        let names = ReaderNames { stream: Arc::clone(&spec.stream), reader: spec.name.clone() };
        Arc::new(Self {
            spec: spec.clone(),
            names: Arc::new(names),
            progress: Arc::default(),
            loaded: OnceCell::new(),
            first_begun: OnceCell::new(),
        })
    }

    /// Where the next subscription begins. The first call asks the store, and waits until it answers.
    pub(crate) async fn begin_at(&self) -> BeginAt {
        self.loaded
            .get_or_init(|| async {
                let (stream, reader) = (self.stream(), &*self.spec.name);
                let kept = self.persist("tell where the reader stopped", || self.spec.store.kept(stream, reader)).await;
                tracing::info!(stream, reader, ?kept, begin = ?self.spec.begin, "the store of offsets has answered");
                self.progress.loaded(kept);
            })
            .await;
        let wanted = match self.spec.begin {
            StreamOffset::Offset(offset) => Some(offset),
            _ => None,
        };
        if let Some(resume) = self.progress.resume(wanted) {
            return BeginAt::Offset(resume.from);
        }
        let again = self.first_begun.get().copied();
        let since = again.unwrap_or_else(SystemTime::now);
        let _ = self.first_begun.set(since);
        let by_clock = |time: SystemTime| {
            BeginAt::Timestamp(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
        };
        match (self.spec.begin, again) {
            (StreamOffset::First, _) => BeginAt::First,
            (StreamOffset::Offset(offset), _) => BeginAt::Offset(offset),
            (StreamOffset::Timestamp(time), _) => by_clock(time),
            (StreamOffset::Interval(age), _) => by_clock(since.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
            (StreamOffset::Last, None) => BeginAt::Last,
            (StreamOffset::Next, None) => BeginAt::Next,
            // The channel was lost before the first message arrived. To begin at the end again would skip what was
            // published meanwhile.
            (StreamOffset::Last | StreamOffset::Next, Some(begun)) => {
                by_clock(begun.checked_sub(CLOCK_SKEW).unwrap_or(SystemTime::UNIX_EPOCH))
            }
        }
    }

    pub(crate) fn stream(&self) -> &str {
        &self.names.stream
    }

    pub(crate) fn position(&self, offset: u64) -> StreamPosition {
        let (names, progress) = (Arc::clone(&self.names), Arc::clone(&self.progress));
        StreamPosition { names, progress, offset, is_item: false }
    }

    /// Whether so many done offsets are not kept that reading has to wait for the store.
    pub(crate) fn is_behind(&self) -> bool {
        let unkept = self.progress.unkept();
        unkept != u64::MAX && unkept > self.spec.keep_every.saturating_mul(2)
    }

    /// Keeps offsets as they are done, until the future is dropped.
    pub(crate) async fn keep_on(&self) {
        loop {
            while self.progress.unkept() == 0 {
                self.progress.wait_done().await;
            }
            let due = sleep(self.spec.keep_within);
            tokio::pin!(due);
            while self.progress.unkept() < self.spec.keep_every {
                tokio::select! {
                    () = self.progress.wait_done() => {}
                    () = &mut due => break,
                }
            }
            self.keep().await;
        }
    }

    /// Keeps what is done now. Waits for the store for at most the time limit of an operation.
    pub(crate) async fn keep_now(&self) {
        if self.progress.to_keep().is_some() && timeout(OPERATION_TIMEOUT, self.keep()).await.is_err() {
            let (stream, reader, limit) = (self.stream(), &self.spec.name, OPERATION_TIMEOUT);
            tracing::warn!(
                stream, %reader, ?limit,
                "the store of offsets does not answer: what is done and not kept is handled again after a restart"
            );
        }
    }

    async fn keep(&self) {
        let Some(next) = self.progress.to_keep() else { return };
        let (stream, reader) = (self.stream(), &*self.spec.name);
        self.persist("keep an offset", || self.spec.store.keep(stream, reader, next)).await;
        self.progress.kept(next);
    }

    /// Asks the store until it answers.
    async fn persist<'a, T>(&self, what: &str, ask: impl Fn() -> BoxFuture<'a, Result<T, OffsetError>>) -> T {
        let mut wait = FIRST_WAIT;
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => {
                    tracing::error!(
                        stream = self.stream(), reader = %self.spec.name, %error, ?wait,
                        "the store of offsets cannot {what}: messages wait, and the store is asked again after the wait"
                    );
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// Waits until reading need not wait for the store any more. For ever without a reader.
pub(crate) async fn caught_up(reader: Option<&Reader>) {
    match reader {
        Some(reader) => reader.progress.wait_kept().await,
        None => pending().await,
    }
}
