//! The channel of now, and the short way to it.
//!
//! When little is on its way, a message is published on its sender's own thread, so that a lone one waits for no other. When
//! more is, it takes the mailbox, which the publisher's actor empties in bursts: a burst costs client and broker less than its
//! messages one by one, and by the time the actor gets to it there is one. Either way messages of one sender leave in the order in
//! which they were accepted: the short way is closed while the mailbox holds anything.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::publish::send_queue::SendQueue;
use crate::publish::{
    confirm::{ConfirmTracker, ConfirmVerdict},
    entry::Entry,
    message::Prepared,
};

/// Messages on the wire without a confirm from which on the next ones leave in bursts.
const FEW: usize = 4;

/// Where messages are published now; nowhere between two channels.
#[derive(Default)]
pub(crate) struct Direct {
    current: Mutex<Option<Current>>,
    /// Messages that took the mailbox and are not published.
    behind: AtomicUsize,
}

struct Current {
    confirms: ConfirmTracker,
    /// Senders may use it.
    open: bool,
}

impl Direct {
    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more takes the mailbox.
    pub(super) fn wait(&self) {
        self.behind.fetch_add(1, Ordering::AcqRel);
    }
}

impl SendQueue {
    /// Publishes `entry` now if nothing stands before it, and little is on the wire.
    pub(super) fn publish_now(&self, entry: Entry) -> Result<(), Entry> {
        // Whoever is at it now is about to publish, or to hear of confirms: nobody waits for that here.
        let mut current = match self.direct.current.try_lock() {
            Ok(current) => current,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(entry),
        };
        match &mut *current {
            Some(Current { confirms, open: true })
                if confirms.len() < self.window.min(FEW) && self.direct.behind.load(Ordering::Acquire) == 0 =>
            {
                for (sequence, message) in self.take([entry]) {
                    confirms.publish(sequence, message);
                }
                Ok(())
            }
            _ => Err(entry),
        }
    }

    /// From now on messages are published here, until what this gives is dropped. Senders may once it is
    /// [open](OnChannel::open).
    pub(crate) fn publish_on(self: &Arc<Self>, confirms: ConfirmTracker) -> OnChannel {
        self.most_header_bytes.store(confirms.frame_max().most_header_bytes(), Ordering::Relaxed);
        *self.direct.current() = Some(Current { confirms, open: false });
        OnChannel { send_queue: Arc::clone(self) }
    }
}

/// Messages that have been taken from the mailbox or the journal, and not published. Dropped, they are the next channel's.
pub(crate) struct Waiting {
    send_queue: Arc<SendQueue>,
    pub(crate) entries: Vec<Entry>,
}

impl Waiting {
    pub(crate) fn new(send_queue: &Arc<SendQueue>) -> Self {
        Self { send_queue: Arc::clone(send_queue), entries: Vec::new() }
    }

    fn went(&self, count: usize) {
        if self.send_queue.journal.is_none() {
            self.send_queue.direct.behind.fetch_sub(count, Ordering::AcqRel);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let count = self.entries.len();
        self.send_queue.keep(self.entries.drain(..));
        self.went(count);
    }
}

/// The actor's end of a channel that messages are published on.
pub(crate) struct OnChannel {
    send_queue: Arc<SendQueue>,
}

impl OnChannel {
    /// Senders may use it, or may not.
    pub(crate) fn open(&self, open: bool) {
        if let Some(current) = &mut *self.send_queue.direct.current() {
            current.open = open;
        }
    }

    /// How many more messages the window has room for.
    pub(crate) fn room(&self) -> usize {
        self.send_queue.window.saturating_sub(self.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.send_queue.direct.current().as_ref().map_or(0, |current| current.confirms.len())
    }

    /// Publishes what was left over, whatever the window.
    pub(crate) fn publish(&self, messages: impl IntoIterator<Item = (u64, Arc<Prepared>)>) {
        if let Some(current) = &mut *self.send_queue.direct.current() {
            for (sequence, message) in messages {
                current.confirms.publish(sequence, message);
            }
        }
    }

    /// Publishes what came by the mailbox or the journal, for which there was room: until it is out no sender takes it.
    pub(crate) fn publish_waiting(&self, waiting: &mut Waiting) {
        let Some(current) = &mut *self.send_queue.direct.current() else { return };
        let count = waiting.entries.len();
        for (sequence, message) in self.send_queue.take(waiting.entries.drain(..)) {
            current.confirms.publish(sequence, message);
        }
        waiting.went(count);
    }

    /// Waits for verdicts and gives all there are. Cancellation safe.
    pub(crate) fn settled(&self, into: &mut Vec<(u64, ConfirmVerdict)>) -> impl Future<Output = ()> {
        poll_fn(|cx| match &mut *self.send_queue.direct.current() {
            Some(current) => current.confirms.poll_settled(cx, into),
            None => std::task::Poll::Pending,
        })
    }
}

impl Drop for OnChannel {
    fn drop(&mut self) {
        // Without the lock: there may be many.
        let current = self.send_queue.direct.current().take();
        drop(current);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fluffle_harness::RabbitMq;
    use lapin::{
        BasicProperties, Connection, ConnectionProperties,
        options::{BasicGetOptions, ConfirmSelectOptions, QueueDeclareOptions},
        types::FieldTable,
    };
    use tokio::time::timeout;

    use super::*;
    use crate::{base::frame::FrameMax, publish::journal::nobody};

    fn entry(id: &str) -> Entry {
        let properties = BasicProperties::default().with_message_id(id.into());
        let message = Prepared::new(id, "", "q", properties, bytes::Bytes::new());
        let reply = nobody(&message);
        Entry::new(message, reply, true)
    }

    #[tokio::test]
    async fn nothing_passes_what_came_by_the_mailbox_before_it_is_in_line() {
        let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
        let connection = Connection::connect(vhost.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();

        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
        assert!(send_queue.publish_now(entry("nowhere")).is_err(), "there is no channel");
        let on_channel = send_queue.publish_on(ConfirmTracker::new(channel.clone(), FrameMax::default(), true));
        assert!(send_queue.publish_now(entry("closed")).is_err(), "what was left over comes first");
        on_channel.open(true);
        let mut waiting = Waiting::new(&send_queue);
        send_queue.direct.wait();
        waiting.entries.push(entry("first"));
        assert!(send_queue.publish_now(entry("too early")).is_err(), "something is before it");
        on_channel.publish_waiting(&mut waiting);
        assert!(send_queue.publish_now(entry("second")).is_ok());
        for id in ["third", "fourth"] {
            assert!(send_queue.publish_now(entry(id)).is_ok());
        }
        assert!(send_queue.publish_now(entry("one of many")).is_err(), "it is to go in a burst");
        let mut verdicts = Vec::new();
        while verdicts.len() < 4 {
            let mut more = Vec::new();
            timeout(Duration::from_secs(30), on_channel.settled(&mut more)).await.unwrap();
            verdicts.append(&mut more);
        }
        for id in ["first", "second", "third", "fourth"] {
            let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
            assert_eq!(got.delivery.properties.message_id().as_ref().unwrap().as_str(), id);
        }
        drop(on_channel);
        assert!(send_queue.publish_now(entry("gone")).is_err());
        connection.close(200, "done".into()).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_verdicts_hears_of_each_message_that_others_publish_meanwhile() {
        let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
        let connection = Connection::connect(vhost.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();

        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
        let on_channel = send_queue.publish_on(ConfirmTracker::new(channel.clone(), FrameMax::default(), true));
        on_channel.open(true);
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let waiting = tokio::spawn(async move {
            loop {
                let mut verdicts = Vec::new();
                on_channel.settled(&mut verdicts).await;
                tell.send(verdicts.len()).await.unwrap();
            }
        });
        for count in [1, 3] {
            // On this one thread it is its turn now: it waits.
            tokio::task::yield_now().await;
            for _ in 0..count {
                assert!(send_queue.publish_now(entry("m")).is_ok());
            }
            let mut settled = 0;
            while settled < count {
                settled += timeout(Duration::from_secs(30), told.recv()).await.expect("it is woken").unwrap();
            }
        }
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        channel.close(200, "done".into()).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_taken_and_not_published_is_the_next_channels_and_no_refusal_is_charged_to_it() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
        let mut waiting = Waiting::new(&send_queue);
        send_queue.direct.wait();
        waiting.entries.push(entry("taken"));
        drop(waiting);
        let error = lapin::protocol::AMQPError::from_id(406, "PRECONDITION_FAILED - too large".into()).unwrap();
        let error = lapin::Error::from(lapin::ErrorKind::ProtocolError(error));
        // Twice would be once too often for one that was on the wire.
        send_queue.refuse(&error);
        send_queue.refuse(&error);
        let left: Vec<_> = send_queue.left_over().into_iter().map(|(_, message)| message.id().to_owned()).collect();
        assert_eq!((left, send_queue.stats().republished), (vec!["taken".to_owned()], 0));
        assert_eq!(send_queue.direct.behind.load(Ordering::Acquire), 0, "the short way is free");
    }
}
