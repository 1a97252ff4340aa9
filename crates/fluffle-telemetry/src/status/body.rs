//! The body of an answer: whole, or a stream of pictures.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::status::news::News;

/// The body of an answer of the status server.
pub struct StatusBody(Kind);

enum Kind {
    Whole(Bytes),
    Stream(Box<Stream>),
}

struct Stream {
    news: News,
    /// One of the few streams that there may be.
    _permit: OwnedSemaphorePermit,
    taken: Arc<LastTaken>,
}

impl StatusBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(bytes.into()))
    }

    pub(crate) fn stream(news: News, permit: OwnedSemaphorePermit) -> Self {
        Self(Kind::Stream(Box::new(Stream { news, _permit: permit, taken: Arc::default() })))
    }

    /// When the reader last took something, if this is a stream.
    pub(crate) fn last_taken(&self) -> Option<Arc<LastTaken>> {
        match &self.0 {
            Kind::Whole(_) => None,
            Kind::Stream(stream) => Some(Arc::clone(&stream.taken)),
        }
    }
}

/// For HTTP servers that take a stream.
impl futures_util::Stream for StatusBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let bytes = |frame: Frame<Bytes>| frame.into_data().unwrap_or_default();
        self.poll_frame(task).map(|frame| frame.map(|frame| frame.map(bytes)))
    }
}

impl Body for StatusBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            // Asked for the next picture only when the reader has taken the last one: a slow reader has one pending.
            Kind::Stream(stream) => {
                stream.taken.note();
                stream.news.poll_next(task).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// When a reader of a stream last took something.
pub(crate) struct LastTaken {
    made: Instant,
    millis: AtomicU64,
}

impl Default for LastTaken {
    fn default() -> Self {
        Self { made: Instant::now(), millis: AtomicU64::new(0) }
    }
}

impl LastTaken {
    fn note(&self) {
        let millis = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// How long the reader has taken nothing.
    pub(crate) fn ago(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.millis.load(Ordering::Relaxed)))
    }
}
