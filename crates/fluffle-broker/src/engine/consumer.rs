//! Connections, channels and consumers as the engine knows them.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::{ChannelKey, ConnectionKey, ConsumerKey, QueueKey, VhostKey, queue::Entry, transaction::Transaction};

/// Bytes waiting for one connection's socket above which the engine delivers nothing more to it.
pub(crate) const BACKLOG_LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) vhost: VhostKey,
    pub(crate) user: Rc<str>,
    pub(crate) name: String,
    pub(crate) channels: HashMap<u16, ChannelKey>,
    /// Bytes on their way to the client, as far as the engine knows.
    pub(crate) backlog: usize,
    /// Whether consumers were passed over for the backlog, and wait for it to shrink.
    pub(crate) congested: bool,
    /// Whether the client understands `basic.cancel` from the broker.
    pub(crate) cancel_notify: bool,
}

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// The number of the last message published.
    pub(crate) last: u64,
    /// Confirmed up to here, with everything before it, but not yet told.
    pub(crate) acked: Option<u64>,
    /// How many that is.
    pub(crate) count: u64,
    /// Messages whose confirm comes late or never.
    pub(crate) withheld: u64,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) connection: ConnectionKey,
    pub(crate) number: u16,
    pub(crate) next_tag: u64,
    pub(crate) unacked: Unacked,
    pub(crate) consumers: HashMap<Rc<str>, ConsumerKey>,
    /// For consumers to come; 0 for no limit.
    pub(crate) prefetch: u16,
    /// For all consumers together; 0 for no limit.
    pub(crate) global_prefetch: u16,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) last_queue: Rc<str>,
    /// Consumer tag and reply address of direct reply-to.
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
    /// Of its last delivery, 0 before the first.
    pub(crate) last_tag: u64,
    /// Not among the queue's active consumers: it could not take a message when its turn came.
    pub(crate) parked: bool,
}

/// A delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) tag: u64,
    pub(crate) queue: QueueKey,
    /// None for `basic.get`.
    pub(crate) consumer: Option<ConsumerKey>,
    pub(crate) since: u64,
    pub(crate) entry: Entry,
}

/// Unacknowledged deliveries of one channel, in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    /// Acknowledged out of turn leaves a gap, filled when it reaches the front or gaps outweigh the rest.
    slots: VecDeque<(u64, Option<Pending>)>,
    count: usize,
    /// Those that count against a prefetch limit shared by the channel.
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

    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.find(tag).is_some()
    }

    /// Takes one delivery out.
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

    /// Takes the first delivery out if its tag is at most `tag`.
    pub(crate) fn take_first(&mut self, tag: u64) -> Option<Pending> {
        while self.slots.front().is_some_and(|(first, _)| *first <= tag) {
            if let Some((_, Some(pending))) = self.slots.pop_front() {
                self.removed(&pending);
                return Some(pending);
            }
        }
        None
    }

    /// Takes back what a transaction had settled and does not commit.
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
