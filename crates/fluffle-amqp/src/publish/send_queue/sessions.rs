//! Which queues may refuse everything on a channel, because the channel holds an old leader of theirs.
//!
//! RabbitMQ's channel makes a session with a quorum queue at its first message to it, with the leader that is known at
//! that moment. If that leader's node has just died, the channel refuses this message and every later one to the queue,
//! although the queue has a new leader: `rabbit_fifo_client:enqueue/3` of RabbitMQ 3.10 asks the first server of its
//! list, and the list never changes. Only a fresh channel has a new list.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::publish::send_queue::lines::Key;

/// How old a channel is at least when it is given up. Doubled for each fresh channel that did not help, because a queue
/// that is full refuses messages on any channel.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Most keys that are remembered. Keys beyond that are not noticed.
const MOST_KEYS: usize = 1024;

/// The keys of which a message was refused and none was taken. It is pure: the caller passes in the time.
pub(super) struct Sessions {
    /// Whether that was on the present channel; else it was on the channel before.
    refused: HashMap<Key, bool>,
    /// The time at which the present channel was opened.
    since: Instant,
    /// How many channels were given up in a row.
    given_up: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { refused: HashMap::new(), since: Instant::now(), given_up: 0 }
    }
}

impl Sessions {
    /// A new channel.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = now;
        self.refused.retain(|_, on_this| std::mem::take(on_this));
        if self.refused.is_empty() {
            self.given_up = 0;
        }
    }

    /// Whether no key is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// A message was refused on the present channel, which has not taken any other of its key.
    pub(super) fn refused(&mut self, key: &Key) {
        if let Some(on_this) = self.refused.get_mut(key) {
            *on_this = true;
        } else if self.refused.len() < MOST_KEYS {
            self.refused.insert(key.clone(), true);
        }
    }

    /// A message was taken.
    pub(super) fn taken(&mut self, key: &Key) {
        if self.refused.remove(key).is_some() && self.refused.is_empty() {
            self.given_up = 0;
        }
    }

    /// Whether the channel should be given up for a fresh one.
    pub(super) fn are_stale(&self, now: Instant) -> bool {
        let wait = SHORTEST.saturating_mul(1 << self.given_up.min(16)).min(LONGEST);
        now >= self.since + wait && self.refused.values().any(|on_this| *on_this)
    }

    /// The channel is given up.
    pub(super) fn give_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("".into(), name.into())
    }

    #[test]
    fn a_channel_on_which_a_queue_takes_nothing_is_given_up() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.begin(start);
        assert!(!sessions.are_stale(start + LONGEST), "nothing was refused");
        sessions.refused(&key("a"));
        assert!(!sessions.are_stale(start), "an election takes a while");
        assert!(sessions.are_stale(start + SHORTEST));
        sessions.taken(&key("a"));
        assert!(!sessions.are_stale(start + LONGEST) && sessions.is_empty());
    }

    #[test]
    fn fresh_channels_that_do_not_help_come_ever_more_rarely() {
        let (mut sessions, mut now) = (Sessions::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            sessions.begin(now);
            sessions.refused(&key("full"));
            let wait = (0..).map(|tick| tick * SHORTEST).find(|wait| sessions.are_stale(now + *wait)).unwrap();
            waits.push(wait.as_millis());
            sessions.give_up();
            now += wait;
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        sessions.begin(now);
        sessions.taken(&key("full"));
        sessions.refused(&key("full"));
        assert!(sessions.are_stale(now + SHORTEST), "the one before had helped");
    }

    #[test]
    fn a_key_that_is_not_used_any_more_is_forgotten() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.begin(now);
        sessions.refused(&key("a"));
        sessions.begin(now);
        assert!(!sessions.is_empty() && !sessions.are_stale(now + LONGEST), "nothing was refused on this channel");
        sessions.begin(now);
        assert!(sessions.is_empty());
    }
}
