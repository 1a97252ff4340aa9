//! Connections, channels and consumers as the engine knows them.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::{ChannelKey, ConnectionKey, ConsumerKey, QueueKey, VhostKey, message::Message, queue::Entry};

/// If more bytes than this wait for the socket of a connection, the engine delivers nothing more to it.
pub(crate) const BACKLOG_LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) vhost: VhostKey,
    pub(crate) user: Rc<str>,
    pub(crate) name: String,
    pub(crate) channels: HashMap<u16, ChannelKey>,
    /// Bytes that wait for the client's socket, as far as the engine knows.
    pub(crate) backlog: usize,
    /// Whether consumers were skipped because of the backlog, and wait until it shrinks.
    pub(crate) congested: bool,
    /// Whether the client understands `basic.cancel` from the broker.
    pub(crate) cancel_notify: bool,
}

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// The number of the last message published.
    pub(crate) last: u64,
    /// The last message number up to which everything is confirmed, but not yet told to the client.
    pub(crate) acked: Option<u64>,
    /// How many confirms that is.
    pub(crate) count: u64,
    /// How many messages have a confirm that comes late or never.
    pub(crate) withheld: u64,
}

/// What waits for the commit of a channel's transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Each message with its `mandatory` flag.
    pub(super) published: Vec<(Rc<Message>, bool)>,
    pub(super) settled: Vec<(Pending, Settlement)>,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) connection: ConnectionKey,
    pub(crate) number: u16,
    pub(crate) next_tag: u64,
    pub(crate) unacked: Unacked,
    pub(crate) consumers: HashMap<Rc<str>, ConsumerKey>,
    /// The limit for later consumers; 0 for no limit.
    pub(crate) prefetch: u16,
    /// The limit for all consumers together; 0 for no limit.
    pub(crate) global_prefetch: u16,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) last_queue: Rc<str>,
    /// The consumer tag and the reply address of direct reply-to.
    pub(crate) replies: Option<(Rc<str>, Rc<str>)>,
    pub(crate) timeout_set: bool,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: Rc<str>,
    pub(crate) channel: ChannelKey,
    pub(crate) queue: QueueKey,
    pub(crate) no_ack: bool,
    pub(crate) priority: i32,
    pub(crate) prefetch: u16,
    pub(crate) unacked: u32,
    /// The tag of its last delivery; 0 before the first.
    pub(crate) last_tag: u64,
    /// For a consumer of a stream, the offset at which it reads on.
    pub(crate) place: Option<u64>,
    /// Whether it was removed from the queue's active consumers, because it could not take a message in its turn.
    pub(crate) parked: bool,
}

/// A delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) tag: u64,
    pub(crate) queue: QueueKey,
    /// `None` if fetched by `basic.get`.
    pub(crate) consumer: Option<ConsumerKey>,
    pub(crate) since: u64,
    pub(crate) entry: Entry,
}

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    Ack,
    Requeue,
    Reject,
    /// Requeued because its channel has ended.
    Lost,
}

/// Unacknowledged deliveries of one channel, in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    /// A delivery acknowledged out of order leaves a gap. The gap is removed when it reaches the front, or when there
    /// are more gaps than deliveries.
    slots: VecDeque<(u64, Option<Pending>)>,
    count: usize,
    /// How many of them count against a prefetch limit of the whole channel.
    pub(crate) consumed: usize,
}

impl Unacked {
    pub(crate) fn push(&mut self, pending: Pending) {
        self.count += 1;
        self.consumed += usize::from(pending.consumer.is_some());
        self.slots.push_back((pending.tag, Some(pending)));
    }

    pub(crate) fn oldest(&self) -> Option<&Pending> {
        self.slots.iter().find_map(|(_, pending)| pending.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.slots.iter().filter_map(|(_, pending)| pending.as_ref())
    }

    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.find(tag).is_some()
    }

    /// Removes one delivery.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Pending> {
        let index = self.find(tag)?;
        let pending = self.slots.get_mut(index)?.1.take()?;
        self.removed(&pending);
        while self.slots.front().is_some_and(|(_, pending)| pending.is_none()) {
            self.slots.pop_front();
        }
        if self.slots.len() > 64 && self.slots.len() > 2 * self.count {
            self.slots.retain(|(_, pending)| pending.is_some());
        }
        Some(pending)
    }

    /// Removes the first delivery if its tag is at most `tag`.
    pub(crate) fn take_first(&mut self, tag: u64) -> Option<Pending> {
        while self.slots.front().is_some_and(|(first, _)| *first <= tag) {
            if let Some((_, Some(pending))) = self.slots.pop_front() {
                self.removed(&pending);
                return Some(pending);
            }
        }
        None
    }

    /// Takes back deliveries that a transaction had settled and did not commit.
    pub(crate) fn put_back(&mut self, mut returned: Vec<Pending>) {
        returned.extend(std::iter::from_fn(|| self.take_first(u64::MAX)));
        returned.sort_by_key(|pending| pending.tag);
        returned.into_iter().for_each(|pending| self.push(pending));
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let index = self.slots.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        self.slots.get(index)?.1.as_ref().map(|_| index)
    }

    fn removed(&mut self, pending: &Pending) {
        self.count -= 1;
        self.consumed -= usize::from(pending.consumer.is_some());
    }
}
