//! A question to another thread, answered.

use std::{sync::mpsc, thread, time::Duration};

use tokio::sync::mpsc::{Sender, error::TrySendError};

/// Sends what `question` makes and waits for the answer; none when the other thread has ended.
pub(crate) fn ask<Q, A>(to: &Sender<Q>, question: impl FnOnce(mpsc::SyncSender<A>) -> Q) -> Option<A> {
    let (answer, answered) = mpsc::sync_channel(1);
    let mut question = question(answer);
    // Not `blocking_send`: it refuses to work within a runtime, and tests are called from there.
    while let Err(error) = to.try_send(question) {
        match error {
            TrySendError::Full(back) => question = back,
            TrySendError::Closed(_) => return None,
        }
        thread::sleep(Duration::from_millis(1));
    }
    answered.recv().ok()
}
