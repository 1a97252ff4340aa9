//! The pictures as lines of JSON, for one reader.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use hyper::body::Bytes;
use tokio::sync::watch;

use crate::telemetry::Shot;

/// The lines that one reader gets: the latest first, then each that comes while the reader is quick enough. The line of
/// a service that has ended is the last one.
pub(crate) struct News(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl News {
    pub(crate) fn new(mut shots: watch::Receiver<Option<Arc<Shot>>>) -> Self {
        shots.mark_changed();
        Self(Box::pin(futures_util::stream::unfold(Some(shots), |shots| async move {
            let mut shots = shots?;
            loop {
                shots.changed().await.ok()?;
                let shot = shots.borrow_and_update().clone();
                if let Some(shot) = shot {
                    let next = (!shot.is_of_the_end()).then_some(shots);
                    return Some((shot.line(), next));
                }
            }
        })))
    }

    /// `Ready(None)` once the stream has ended; not to be polled after that.
    pub(crate) fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.as_mut().poll_next(task)
    }
}
