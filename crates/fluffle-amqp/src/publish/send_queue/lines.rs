//! The order of the messages of one routing key while a queue takes none, or may not yet take any.
//!
//! When a queue refuses a message for a reason that passes, such as the election of a leader, the message is published
//! again later. Messages of the same routing key that come after it wait behind it, in a *line*, and messages of other
//! keys go on. When the first of the line is confirmed, the others follow in their order.
//!
//! On each channel a key begins with a line: RabbitMQ's channel makes itself known to a quorum queue with its first
//! message, and refuses that one if the queue has no leader at that moment. A second message on the wire would overtake
//! it. (`rabbit_fifo_client:enqueue/3`, RabbitMQ 3.10 to 4.x.)

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use fluffle_supervise::Backoff;
use tokio::time::Instant;

use crate::publish::message::Prepared;

/// Most keys of a channel whose first message goes alone. With more, every message goes at once.
const MOST_KEYS: usize = 1024;

/// Exchange and routing key.
pub(super) type Key = (Arc<str>, Arc<str>);

pub(super) fn key_of(message: &Prepared) -> Key {
    (Arc::clone(&message.exchange), Arc::clone(&message.routing_key))
}

/// The lines of one channel, by the sequence numbers of their messages. It is pure: the caller passes in the time.
#[derive(Default)]
pub(super) struct Lines {
    by_key: HashMap<Key, Line>,
    /// The keys of which the channel has confirmed a message; `None` if that is of no interest.
    proven: Option<Proven>,
    /// The refusals of lines of the channel before, which the lines of this one go on from.
    before: HashMap<Key, Refusals>,
}

#[derive(Default)]
struct Proven {
    keys: HashSet<Key>,
    /// The key that was proven last: usually that of the next message too.
    last: Option<Key>,
}

/// The first message of a key, and those that wait for it.
struct Line {
    first: u64,
    /// When the first is published again; `None` while it is on the wire.
    due: Option<Instant>,
    refusals: Option<Refusals>,
    behind: VecDeque<u64>,
}

/// Since when the first message of a line has been refused, and how often.
struct Refusals {
    since: Instant,
    times: u32,
}

impl Line {
    fn new(first: u64, refusals: Option<Refusals>) -> Self {
        Self { first, due: None, refusals, behind: VecDeque::new() }
    }
}

impl Lines {
    /// A new channel: nothing waits.
    pub(super) fn begin(&mut self) {
        let refused = self.by_key.drain().filter_map(|(key, line)| Some((key, line.refusals?)));
        *self = Self { before: refused.collect(), by_key: HashMap::new(), proven: Some(Proven::default()) };
    }

    /// Whether no message waits for another one.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether `message` may go without a further look. False does not mean that it may not.
    pub(super) fn is_open_for(&self, message: &Prepared) -> bool {
        self.by_key.is_empty()
            && self.proven.as_ref().is_none_or(|proven| {
                proven.last.as_ref().is_some_and(|(exchange, key)| {
                    Arc::ptr_eq(exchange, &message.exchange) && Arc::ptr_eq(key, &message.routing_key)
                })
            })
    }

    /// Whether the channel is known to have confirmed a message of the key.
    pub(super) fn is_proven(&self, key: &Key) -> bool {
        self.proven.as_ref().is_some_and(|proven| proven.keys.contains(key))
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.by_key.values().map(|line| line.behind.len() + usize::from(line.due.is_some())).sum()
    }

    /// Whether message `sequence` may be published now; else it waits in the line of its key.
    pub(super) fn may_go(&mut self, key: Key, sequence: u64) -> bool {
        if let Some(line) = self.by_key.get_mut(&key) {
            line.behind.push_back(sequence);
            return false;
        }
        self.proven.take_if(|proven| self.by_key.len() + proven.keys.len() >= MOST_KEYS);
        if let Some(proven) = &mut self.proven {
            if proven.keys.contains(&key) {
                proven.last = Some(key);
            } else {
                let refusals = self.before.remove(&key);
                self.by_key.insert(key, Line::new(sequence, refusals));
            }
        }
        true
    }

    /// The broker has taken message `sequence`. Gives those that may be published now.
    pub(super) fn taken(&mut self, key: Key, sequence: u64, now: Instant) -> VecDeque<u64> {
        match self.by_key.get_mut(&key) {
            Some(line) if line.first != sequence => {
                // Another message of the key was on the wire too. It shows that the queue takes messages again.
                line.due = line.due.map(|_| now);
                return VecDeque::new();
            }
            None => return VecDeque::new(),
            Some(_) => {}
        }
        let released = self.by_key.remove(&key).map(|line| line.behind).unwrap_or_default();
        if let Some(proven) = &mut self.proven {
            proven.keys.insert(key);
        }
        released
    }

    /// Since when messages of the key have been refused: now, if this is the first.
    pub(super) fn refused_since(&self, key: &Key, now: Instant) -> Instant {
        self.by_key.get(key).and_then(|line| line.refusals.as_ref()).map_or(now, |refusals| refusals.since)
    }

    /// Whether message `sequence` is the first of its line, and was refused.
    pub(super) fn was_refused(&self, key: &Key, sequence: u64) -> bool {
        self.by_key.get(key).is_some_and(|line| line.first == sequence && line.refusals.is_some())
    }

    /// The queue has refused message `sequence`, which is published again later.
    pub(super) fn refused(&mut self, key: Key, sequence: u64, backoff: &Backoff, now: Instant) {
        let line = self.by_key.entry(key).or_insert_with(|| Line::new(sequence, None));
        let refusals = line.refusals.get_or_insert(Refusals { since: now, times: 0 });
        if sequence > line.first {
            let place = line.behind.partition_point(|other| *other < sequence);
            return line.behind.insert(place, sequence);
        }
        if sequence < line.first {
            line.behind.push_front(line.first);
            line.first = sequence;
        }
        line.due = Some(now + backoff.wait(refusals.times));
        refusals.times = refusals.times.saturating_add(1);
    }

    /// Message `sequence` is gone, without having been taken: the next of its line is the first.
    pub(super) fn gone(&mut self, key: Key, sequence: u64, now: Instant) {
        let Some(line) = self.by_key.get_mut(&key) else { return };
        if line.first != sequence {
            return line.behind.retain(|other| *other != sequence);
        }
        match line.behind.pop_front() {
            Some(next) => (line.first, line.due) = (next, Some(now)),
            None => drop(self.by_key.remove(&key)),
        }
    }

    /// The messages to publish now, one of each line whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        let due = self.by_key.values_mut().filter(|line| line.due.is_some_and(|due| due <= now));
        let mut firsts: Vec<u64> = due
            .map(|line| {
                line.due = None;
                line.first
            })
            .collect();
        firsts.sort_unstable();
        firsts
    }

    /// When the next message is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|line| line.due).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Key {
        ("".into(), name.into())
    }

    fn backoff() -> Backoff {
        Backoff::exponential(Duration::from_millis(20), Duration::from_secs(1)).unwrap().factor(1.0).unwrap()
    }

    #[test]
    fn on_a_new_channel_the_first_message_of_each_key_goes_alone() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        lines.begin();
        assert!(lines.may_go(key("a"), 0));
        assert!(!lines.may_go(key("a"), 1));
        assert!(lines.may_go(key("b"), 2), "another queue");
        assert!(!lines.may_go(key("a"), 3));
        assert_eq!(lines.waiting(), 2);
        assert_eq!(lines.taken(key("a"), 0, now), [1, 3]);
        assert!(lines.may_go(key("a"), 4), "the queue has shown that it takes messages");
        assert_eq!(lines.taken(key("b"), 2, now), [0; 0]);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_new_channel_with_very_many_keys_does_not_keep_them_all() {
        let mut lines = Lines::default();
        lines.begin();
        for number in 0..2 * MOST_KEYS as u64 {
            assert!(lines.may_go(key(&number.to_string()), number));
        }
        assert_eq!(lines.by_key.len(), MOST_KEYS);
        assert!(lines.may_go(key("new"), 0) && lines.may_go(key("new"), 1));
    }

    #[test]
    fn what_is_refused_is_due_again_and_the_later_messages_of_its_key_wait_for_it_in_order() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..3).all(|sequence| lines.may_go(key("a"), sequence)));
        // The verdicts of one burst come in any order.
        for sequence in [1, 2, 0] {
            lines.refused(key("a"), sequence, &backoff(), now);
        }
        assert!(!lines.may_go(key("a"), 3));
        assert!(lines.may_go(key("b"), 4));
        assert_eq!((lines.due(now), lines.waiting()), (vec![], 4));
        let due = lines.next_due().unwrap();
        assert_eq!(due, now + Duration::from_millis(20));
        assert_eq!(lines.due(due), [0]);
        assert_eq!(lines.next_due(), None, "the first is on the wire");
        lines.refused(key("a"), 0, &backoff(), due);
        let due = lines.next_due().unwrap();
        assert_eq!(lines.due(due), [0]);
        assert_eq!(lines.taken(key("a"), 0, due), [1, 2, 3]);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_line_goes_on_over_channels_with_its_refusals() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut times = Vec::new();
        for _ in 0..3 {
            lines.begin();
            assert!(lines.may_go(key("a"), 0));
            lines.refused(key("a"), 0, &backoff(), now);
            times.push(lines.by_key[&key("a")].refusals.as_ref().map(|refusals| refusals.times));
            assert_eq!(lines.refused_since(&key("a"), now + LONG), now);
        }
        assert_eq!(times, [Some(1), Some(2), Some(3)]);
        lines.begin();
        assert!(lines.may_go(key("a"), 0));
        assert_eq!(lines.taken(key("a"), 0, now), [0; 0]);
        assert_eq!(lines.refused_since(&key("a"), now + LONG), now + LONG, "it was taken meanwhile");
    }

    #[test]
    fn when_the_first_is_given_up_the_next_takes_its_place_at_once() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..2).all(|sequence| lines.may_go(key("a"), sequence)));
        lines.refused(key("a"), 0, &backoff(), now);
        lines.refused(key("a"), 1, &backoff(), now);
        assert!(!lines.may_go(key("a"), 2));
        lines.gone(key("a"), 2, now);
        lines.gone(key("a"), 0, now);
        assert_eq!(lines.due(now), [1]);
        lines.gone(key("a"), 1, now);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_message_of_the_key_that_gets_through_makes_the_first_due_at_once() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..2).all(|sequence| lines.may_go(key("a"), sequence)));
        lines.refused(key("a"), 0, &backoff(), now);
        assert_eq!(lines.taken(key("a"), 1, now), [0; 0]);
        assert_eq!(lines.due(now), [0]);
    }
}
