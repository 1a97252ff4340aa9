//! The order of the messages of one routing key while a queue takes none, or may not yet take any.
//!
//! When a queue refuses a message for a reason that passes, such as the election of a leader, the message is published
//! again later. Messages of the same routing key that come after it wait behind it, in a *line*, and messages of other
//! keys go on. When the first of the line is confirmed, the others follow in their order.
//!
//! On a new channel each key begins with a line: RabbitMQ's channel makes itself known to a quorum queue with the first
//! message, and refuses it if the queue has no leader at that moment. A second message on the wire could overtake it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fluffle_supervise::Backoff;
use tokio::time::Instant;

use crate::publish::message::Prepared;

/// How long a channel counts as new.
const NEW: Duration = Duration::from_secs(2);

/// Most keys of a new channel whose first message goes alone.
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
    new: Option<New>,
}

/// A channel that is new.
struct New {
    since: Instant,
    /// The keys of which it has confirmed a message.
    proven: HashSet<Key>,
}

/// The first message of a key, and those that wait for it.
struct Line {
    first: u64,
    /// When the first is published again; `None` while it is on the wire.
    due: Option<Instant>,
    tries: u32,
    behind: VecDeque<u64>,
}

impl Line {
    fn new(first: u64) -> Self {
        Self { first, due: None, tries: 0, behind: VecDeque::new() }
    }
}

impl Lines {
    /// A new channel: nothing waits.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { by_key: HashMap::new(), new: Some(New { since: now, proven: HashSet::new() }) };
    }

    /// Whether no message has to wait for another one.
    pub(super) fn is_idle(&self) -> bool {
        self.by_key.is_empty() && self.new.is_none()
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.by_key.values().map(|line| line.behind.len() + usize::from(line.due.is_some())).sum()
    }

    /// Whether message `sequence` may be published now; else it waits in the line of its key.
    pub(super) fn may_go(&mut self, key: Key, sequence: u64, now: Instant) -> bool {
        self.new.take_if(|new| now.saturating_duration_since(new.since) >= NEW);
        if let Some(line) = self.by_key.get_mut(&key) {
            line.behind.push_back(sequence);
            return false;
        }
        if let Some(new) = &self.new
            && !new.proven.contains(&key)
            && self.by_key.len() + new.proven.len() < MOST_KEYS
        {
            self.by_key.insert(key, Line::new(sequence));
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
        if let Some(new) = &mut self.new {
            new.proven.insert(key);
        }
        released
    }

    /// The queue has refused message `sequence`, which is published again later.
    pub(super) fn refused(&mut self, key: Key, sequence: u64, backoff: &Backoff, now: Instant) {
        let line = self.by_key.entry(key).or_insert_with(|| Line::new(sequence));
        if sequence > line.first {
            let place = line.behind.partition_point(|other| *other < sequence);
            return line.behind.insert(place, sequence);
        }
        if sequence < line.first {
            line.behind.push_front(line.first);
            line.first = sequence;
        }
        line.due = Some(now + backoff.wait(line.tries));
        line.tries = line.tries.saturating_add(1);
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
    use super::*;

    fn key(name: &str) -> Key {
        ("".into(), name.into())
    }

    fn backoff() -> Backoff {
        Backoff::exponential(Duration::from_millis(20), Duration::from_secs(1)).unwrap().factor(1.0).unwrap()
    }

    #[test]
    fn on_a_new_channel_the_first_message_of_each_key_goes_alone() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        lines.begin(now);
        assert!(lines.may_go(key("a"), 0, now));
        assert!(!lines.may_go(key("a"), 1, now));
        assert!(lines.may_go(key("b"), 2, now), "another queue");
        assert!(!lines.may_go(key("a"), 3, now));
        assert_eq!(lines.waiting(), 2);
        assert_eq!(lines.taken(key("a"), 0, now), [1, 3]);
        assert!(lines.may_go(key("a"), 4, now), "the queue has shown that it takes messages");
        assert_eq!(lines.taken(key("b"), 2, now), [0; 0]);
        assert!(lines.may_go(key("c"), 5, now + NEW));
        assert!(lines.may_go(key("c"), 6, now + NEW), "the channel is no longer new");
        assert!(lines.is_idle());
    }

    #[test]
    fn a_new_channel_with_very_many_keys_does_not_keep_them_all() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        lines.begin(now);
        for number in 0..2 * MOST_KEYS as u64 {
            assert!(lines.may_go(key(&number.to_string()), number, now));
        }
        assert_eq!(lines.by_key.len(), MOST_KEYS);
    }

    #[test]
    fn what_is_refused_is_due_again_and_the_later_messages_of_its_key_wait_for_it_in_order() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..3).all(|sequence| lines.may_go(key("a"), sequence, now)));
        // The verdicts of one burst come in any order.
        for sequence in [1, 2, 0] {
            lines.refused(key("a"), sequence, &backoff(), now);
        }
        assert!(!lines.may_go(key("a"), 3, now));
        assert!(lines.may_go(key("b"), 4, now));
        assert_eq!((lines.due(now), lines.waiting()), (vec![], 4));
        let due = lines.next_due().unwrap();
        assert_eq!(due, now + Duration::from_millis(20));
        assert_eq!(lines.due(due), [0]);
        assert_eq!(lines.next_due(), None, "the first is on the wire");
        lines.refused(key("a"), 0, &backoff(), due);
        let due = lines.next_due().unwrap();
        assert_eq!(lines.due(due), [0]);
        assert_eq!(lines.taken(key("a"), 0, due), [1, 2, 3]);
        assert!(lines.is_idle());
    }

    #[test]
    fn when_the_first_is_given_up_the_next_takes_its_place_at_once() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..2).all(|sequence| lines.may_go(key("a"), sequence, now)));
        lines.refused(key("a"), 0, &backoff(), now);
        lines.refused(key("a"), 1, &backoff(), now);
        assert!(!lines.may_go(key("a"), 2, now));
        lines.gone(key("a"), 2, now);
        lines.gone(key("a"), 0, now);
        assert_eq!(lines.due(now), [1]);
        lines.gone(key("a"), 1, now);
        assert!(lines.is_idle());
    }

    #[test]
    fn a_message_of_the_key_that_gets_through_makes_the_first_due_at_once() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..2).all(|sequence| lines.may_go(key("a"), sequence, now)));
        lines.refused(key("a"), 0, &backoff(), now);
        assert_eq!(lines.taken(key("a"), 1, now), [0; 0]);
        assert_eq!(lines.due(now), [0]);
    }
}
