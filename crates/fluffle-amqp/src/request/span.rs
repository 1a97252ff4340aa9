//! The span of a request on its way to the broker.

use crate::base::{
    events::PublishResult,
    trace::{self, PublishSpan},
};

/// The span of a request, if it has one. It ends with the broker's confirm; dropped before, the request was not sent.
#[derive(Default)]
pub(crate) struct FollowedSpan(Option<Box<dyn PublishSpan>>);

impl FollowedSpan {
    pub(crate) fn new(span: Option<Box<dyn PublishSpan>>) -> Self {
        Self(span)
    }

    pub(crate) fn end(mut self, result: PublishResult) {
        trace::settle(self.0.take(), result);
    }
}

impl Drop for FollowedSpan {
    fn drop(&mut self) {
        trace::settle(self.0.take(), PublishResult::Failed);
    }
}
