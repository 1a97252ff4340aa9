//! The actor's end of the current channel.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::time::Interval;

use crate::publish::{
    confirm::{ConfirmTracker, ConfirmVerdict},
    entry::Entry,
    message::Prepared,
    passing::Passing,
    send_queue::{direct::Current, queue::SendQueue},
};

/// Entries that are taken from the mailbox or the journal and not published. When this is dropped, they are left to the
/// next channel.
pub(crate) struct UnsentEntries {
    send_queue: Arc<SendQueue>,
    pub(crate) entries: Vec<Entry>,
}

impl UnsentEntries {
    pub(crate) fn new(send_queue: &Arc<SendQueue>) -> Self {
        Self { send_queue: Arc::clone(send_queue), entries: Vec::new() }
    }

    fn went(&self, count: usize) {
        // Entries from the journal never took the mailbox.
        if self.send_queue.journal.is_none() {
            self.send_queue.direct.went(count);
        }
    }
}

impl Drop for UnsentEntries {
    fn drop(&mut self) {
        let count = self.entries.len();
        self.send_queue.unsettled.keep(self.entries.drain(..), &self.send_queue.books);
        self.went(count);
    }
}

/// A channel that a publisher's messages are published on until this is dropped.
pub(crate) struct OnChannel {
    send_queue: Arc<SendQueue>,
}

impl OnChannel {
    /// Makes the channel of `confirms` the current one. Senders may publish on it once it is [open](Self::open).
    pub(crate) fn new(send_queue: &Arc<SendQueue>, confirms: ConfirmTracker) -> Self {
        send_queue.set_most_header_bytes(confirms.frame_max().most_header_bytes());
        *send_queue.direct.current() = Some(Current { confirms, open: false, watched: false });
        Self { send_queue: Arc::clone(send_queue) }
    }

    /// Lets senders publish on the channel.
    pub(crate) fn open(&self) {
        if let Some(current) = &mut *self.send_queue.direct.current() {
            current.open = true;
        }
    }

    /// Lets senders publish on the channel no longer.
    pub(crate) fn shut(&self) {
        if let Some(current) = &mut *self.send_queue.direct.current() {
            current.open = false;
        }
    }

    /// How many more messages the window has room for. Those that wait for the first of their routing key have a place
    /// in it.
    pub(crate) fn room(&self) -> usize {
        self.send_queue.window.saturating_sub(self.len() + self.send_queue.unsettled.waiting())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.send_queue.direct.current().as_ref().map_or(0, |current| current.confirms.len())
    }

    /// Publishes messages that are unsettled already, whether or not the window has room for them.
    pub(crate) fn publish(&self, messages: impl IntoIterator<Item = (u64, Arc<Prepared>)>) {
        if let Some(current) = &mut *self.send_queue.direct.current() {
            for (sequence, message) in messages {
                current.confirms.publish(sequence, message);
            }
        }
    }

    /// Tells the senders of these verdicts, and publishes what waited for the messages that the broker has taken.
    pub(crate) fn settle(&self, verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>, passing: &Passing) {
        if self.send_queue.unsettled.has_no_lines() {
            // What is released belongs to a line.
            self.send_queue.settle(verdicts, passing);
            return;
        }
        // Held until what is released is published: a later message of its key would go past it.
        let mut current = self.send_queue.direct.current();
        let released = self.send_queue.settle(verdicts, passing);
        if let Some(current) = &mut *current {
            released.into_iter().for_each(|(sequence, message)| current.confirms.publish(sequence, message));
        }
    }

    /// Publishes entries that came by the mailbox or the journal. Until this returns, no sender publishes directly.
    pub(crate) fn publish_waiting(&self, waiting: &mut UnsentEntries) {
        let Some(current) = &mut *self.send_queue.direct.current() else { return };
        let count = waiting.entries.len();
        for (sequence, message) in self.send_queue.unsettled.take(waiting.entries.drain(..), &self.send_queue.books) {
            current.confirms.publish(sequence, message);
        }
        waiting.went(count);
    }

    /// Waits for verdicts and moves all there are into `into`. Cancellation safe: a verdict is in `into` or not yet
    /// taken.
    pub(crate) fn settled(&self, into: &mut Vec<(u64, ConfirmVerdict)>) -> impl Future<Output = ()> {
        poll_fn(|cx| match &mut *self.send_queue.direct.current() {
            Some(current) => current.confirms.poll_settled(cx, into),
            None => Poll::Pending,
        })
    }
}

impl OnChannel {
    /// Waits for the next tick of `look` at which a message is on the wire, or for the first message after a rest.
    /// While none is on the wire, no timer runs. Cancellation safe.
    pub(crate) fn next_look(&self, look: &mut Interval) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let mut current = self.send_queue.direct.current();
            let Some(Current { confirms, watched, .. }) = &mut *current else { return Poll::Pending };
            if !*watched {
                if confirms.is_empty() {
                    return Poll::Pending;
                }
                // A look at once, which marks the time from which this message counts.
                *watched = true;
                look.reset();
                return Poll::Ready(());
            }
            ready!(look.poll_tick(cx));
            *watched = !confirms.is_empty();
            if *watched { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

impl Drop for OnChannel {
    fn drop(&mut self) {
        let Some(mut current) = self.send_queue.direct.current().take() else { return };
        // What has a verdict that nobody took would be published again: without confirms, it would come twice.
        let mut verdicts = Vec::new();
        let _ = current.confirms.poll_settled(&mut Context::from_waker(Waker::noop()), &mut verdicts);
        self.send_queue.unsettled.settle_taken(verdicts, &self.send_queue.books);
    }
}
