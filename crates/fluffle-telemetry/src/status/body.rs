//! The body of an answer: whole, or a stream of pictures.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::status::{news::News, places::Place};

/// The body of an answer of the status server.
pub struct StatusBody(Kind);

enum Kind {
    Whole(Bytes),
    Stream(Box<Stream>),
}

struct Stream {
    news: News,
    /// One of the few readers that there may be.
    _place: Place,
    /// Resolves when the server ends.
    end: Option<BoxFuture<'static, ()>>,
}

impl StatusBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(bytes.into()))
    }

    pub(crate) fn stream(news: News, place: Place) -> Self {
        Self(Kind::Stream(Box::new(Stream { news, _place: place, end: None })))
    }

    /// Ends a stream of pictures when `end` resolves.
    pub(crate) fn until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        if let Kind::Stream(stream) = &mut self.0 {
            stream.end = Some(Box::pin(end));
        }
        self
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
            Kind::Stream(stream) => {
                // Asked for the next picture only when the reader has taken the last one: a slow reader has one
                // pending.
                if let Poll::Ready(line) = stream.news.poll_next(task) {
                    return Poll::Ready(line.map(|line| Ok(Frame::data(line))));
                }
                match &mut stream.end {
                    Some(end) => end.as_mut().poll(task).map(|()| None),
                    None => Poll::Pending,
                }
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
