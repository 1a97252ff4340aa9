//! The entries that are on the wire, those that the next channel publishes first, and what becomes of both.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fluffle_supervise::Backoff;
use tokio::time::Instant;

use crate::{
    base::{numbered::Numbered, requests::DIRECT_REPLY_TO},
    link::class::reply,
    publish::{
        confirm::{ConfirmVerdict, TooLarge},
        entry::Entry,
        error::PublishErrorKind,
        message::Prepared,
        outcome::SendOutcome,
        passing::Passing,
        send_queue::{
            books::Books,
            lines::{Lines, key_of},
            sessions::Sessions,
        },
    },
};

/// A message to publish, and the sequence number that its verdict comes back under.
pub(super) type Numbering = (u64, Arc<Prepared>);

/// The longest wait before a refused message is published again. A message whose deadline comes sooner goes back to its
/// sender, who can still be told the reason then.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Waits of 20 ms up to `longest`.
fn waits(longest: Duration) -> Backoff {
    Backoff::exponential(Duration::from_millis(20).min(longest), longest).unwrap_or_else(|_| Backoff::none())
}

/// Entries by sequence number, oldest first.
#[derive(Default)]
pub(super) struct Unsettled {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    entries: Numbered<Entry>,
    lines: Lines,
    sessions: Sessions,
    /// The sequence number of the next entry.
    next: u64,
}

/// The result of charging a refusal by the broker to messages.
pub(super) struct Charged {
    /// Entries that are refused for the second time: they go back to their senders.
    pub(super) refused: Vec<Entry>,
    /// How many messages the refusal may be about.
    pub(super) blamed: usize,
}

impl Unsettled {
    /// Enters `entries`, and gives what is to be published now; the others wait in the [line](Lines) of their key. If a
    /// sender has withdrawn its message, its entry is dropped instead.
    pub(super) fn take(&self, entries: impl IntoIterator<Item = Entry>, books: &Books) -> Vec<Numbering> {
        self.enter(entries, books, true)
    }

    /// Enters `entries` that the next channel publishes before everything accepted later.
    pub(super) fn keep(&self, entries: impl IntoIterator<Item = Entry>, books: &Books) {
        self.enter(entries, books, false);
    }

    fn enter(&self, entries: impl IntoIterator<Item = Entry>, books: &Books, on_the_wire: bool) -> Vec<Numbering> {
        let entries = entries.into_iter();
        let mut taken = Vec::with_capacity(entries.size_hint().0);
        let (mut withdrawn, mut now) = (0, None);
        let mut rows = self.rows();
        for mut entry in entries {
            let sequence = rows.next;
            // A message that comes from the journal again was on the wire before.
            entry.on_the_wire = false;
            if entry.withdrawn() || on_the_wire && !rows.goes(&mut entry, sequence) {
                withdrawn += entry.items();
                continue;
            }
            if entry.on_the_wire
                && let Some(now) = *now.get_or_insert_with(|| books.now())
            {
                entry.times.sent.get_or_insert(now);
                // For what comes from a journal, or was accepted before anybody listened.
                entry.times.accepted.get_or_insert(now);
            }
            rows.next += 1;
            if entry.on_the_wire {
                taken.push((sequence, Arc::clone(&entry.message)));
            }
            rows.entries.insert(sequence, entry);
        }
        drop(rows);
        books.withdrawn(withdrawn);
        taken
    }

    /// The messages that an earlier channel left without a verdict, oldest first, to be published again under the same
    /// ids on a new channel: the first of each [line](Lines). Suspects are left out, see [`suspect`](Self::suspect).
    pub(super) fn left_over(&self, books: &Books) -> Vec<Numbering> {
        let (mut withdrawn, mut republished, mut again) = (0, 0, Vec::new());
        let mut guard = self.rows();
        let rows = &mut *guard;
        rows.lines.begin();
        rows.sessions.begin(Instant::now());
        rows.entries.retain(|entry| {
            let is_withdrawn = entry.withdrawn();
            withdrawn += if is_withdrawn { entry.items() } else { 0 };
            !is_withdrawn
        });
        let mut gone = Vec::new();
        for (sequence, entry) in rows.entries.iter_mut() {
            let was_on_the_wire = std::mem::take(&mut entry.on_the_wire);
            republished += if was_on_the_wire { entry.items() } else { 0 };
            let is_suspect = entry.refusals > 0;
            if is_suspect || !rows.lines.may_go(key_of(&entry.message), sequence) {
                continue;
            }
            entry.on_the_wire = entry.reply.depart();
            match entry.on_the_wire {
                true => again.push((sequence, Arc::clone(&entry.message))),
                false => gone.push(sequence),
            }
            // A refused message that waited for its next try when the last channel ended.
            if entry.on_the_wire && !was_on_the_wire && rows.lines.was_refused(&key_of(&entry.message), sequence) {
                republished += entry.items();
            }
        }
        // Their senders withdrew them this very moment.
        for sequence in gone {
            withdrawn += rows.remove(sequence).map_or(0, |entry| entry.items());
        }
        drop(guard);
        books.withdrawn(withdrawn);
        books.republish(republished);
        again
    }

    /// The next suspect: a message that the broker may have closed an earlier channel over. Suspects are published one
    /// at a time, with nothing else on the wire. If the broker closes the channel again, the suspect is to blame; if it
    /// confirms the message, the suspect is cleared.
    pub(super) fn suspect(&self, books: &Books) -> Option<Numbering> {
        let mut withdrawn_items = 0;
        let mut rows = self.rows();
        rows.entries.retain(|entry| {
            let withdrawn = is_suspect(entry) && !entry.reply.depart();
            if withdrawn {
                withdrawn_items += entry.items();
            }
            !withdrawn
        });
        let suspect = rows.entries.iter_mut().find(|(_, entry)| is_suspect(entry)).map(|(sequence, entry)| {
            entry.on_the_wire = true;
            (sequence, Arc::clone(&entry.message))
        });
        drop(rows);
        books.withdrawn(withdrawn_items);
        suspect
    }

    /// How many entries are on the wire, or are kept for the next channel.
    pub(super) fn len(&self) -> usize {
        self.rows().entries.len()
    }

    /// How many messages are on the wire, or were on the wire of a channel that is lost.
    pub(super) fn on_the_wire(&self) -> usize {
        self.rows().entries.iter().filter(|(_, entry)| entry.on_the_wire).map(|(_, entry)| entry.items()).sum()
    }

    pub(super) fn has_suspects(&self) -> bool {
        self.rows().entries.iter().any(|(_, entry)| is_suspect(entry))
    }

    /// The sequence number of the oldest entry on the wire, and that of the next entry.
    pub(super) fn progress(&self) -> (Option<u64>, u64) {
        let rows = self.rows();
        let mut on_the_wire = rows.entries.iter().filter(|(_, entry)| entry.on_the_wire);
        (on_the_wire.next().map(|(sequence, _)| sequence), rows.next)
    }

    /// How many entries wait behind the first of their key, or to be published again.
    pub(super) fn waiting(&self) -> usize {
        self.rows().lines.waiting()
    }

    /// Whether no entry waits for another one, and no message of a key is the first of its channel.
    pub(super) fn has_no_lines(&self) -> bool {
        self.rows().lines.is_empty()
    }

    /// Whether a queue may refuse everything on the present channel, which is given up then. Says so once.
    pub(super) fn gives_up_channel(&self) -> bool {
        let mut rows = self.rows();
        let stale = !rows.sessions.is_empty() && rows.sessions.are_stale(Instant::now());
        if stale {
            rows.sessions.give_up();
        }
        stale
    }

    /// The messages whose time has come to be published again, and when the next one is due.
    pub(super) fn due(&self, books: &Books) -> (Vec<Numbering>, Option<Instant>) {
        let (mut withdrawn, now) = (0, Instant::now());
        let mut rows = self.rows();
        if rows.lines.is_empty() {
            return (Vec::new(), None);
        }
        let due = rows.lines.due(now);
        let republished = rows.release(due, &mut withdrawn);
        let next = rows.lines.next_due();
        drop(rows);
        books.withdrawn(withdrawn);
        books.republish(republished.iter().map(|(_, message)| message.items as usize).sum());
        (republished, next)
    }

    /// Tells the senders, and gives what is to be published now. [`ConfirmVerdict::Lost`] settles nothing: the entry
    /// stays for the next channel. A refusal that `passing` calls one that passes settles nothing either: the entry is
    /// published again later.
    pub(super) fn settle(
        &self,
        verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>,
        passing: &Passing,
        books: &Books,
    ) -> Vec<Numbering> {
        let (mut released, mut withdrawn) = (Vec::new(), 0);
        for (sequence, verdict) in verdicts {
            let outcome = match verdict {
                ConfirmVerdict::Confirmed => SendOutcome::Confirmed,
                ConfirmVerdict::Written => SendOutcome::Written,
                ConfirmVerdict::Returned(returned) => SendOutcome::Returned(returned),
                ConfirmVerdict::Nacked => SendOutcome::Nacked,
                ConfirmVerdict::DoesNotFit(TooLarge { bytes, most }) => {
                    SendOutcome::Unsent(PublishErrorKind::HeadersTooLarge { bytes, most })
                }
                ConfirmVerdict::Lost(_) => continue,
            };
            let mut rows = self.rows();
            if rows.waits_after(sequence, &outcome, passing) {
                continue;
            }
            let settled = match outcome {
                SendOutcome::Confirmed | SendOutcome::Written => {
                    let (settled, next) = rows.taken(sequence);
                    released.extend(rows.release(next, &mut withdrawn));
                    settled
                }
                _ => rows.remove(sequence),
            };
            drop(rows);
            if let Some(entry) = settled {
                books.settle(entry, outcome);
            }
        }
        books.withdrawn(withdrawn);
        released
    }

    /// Tells the senders of what the broker has taken, at the end of a channel. The rest, and what waited for these
    /// messages, is left to the next channel.
    pub(super) fn settle_taken(&self, verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>, books: &Books) {
        for (sequence, verdict) in verdicts {
            let outcome = match verdict {
                ConfirmVerdict::Confirmed => SendOutcome::Confirmed,
                ConfirmVerdict::Written => SendOutcome::Written,
                _ => continue,
            };
            let (settled, _) = self.rows().taken(sequence);
            if let Some(entry) = settled {
                books.settle(entry, outcome);
            }
        }
    }

    /// Charges a refusal of a channel to the messages it may be about: those for the exchange (and the topic) that its
    /// text names, else every message that was on the wire. `None` if `error` is no refusal by the broker.
    pub(super) fn refuse(&self, error: &lapin::Error) -> Option<Charged> {
        let (_, text) = reply(error)?;
        let named = |entry: &Entry| {
            text.contains(&format!("exchange '{}'", entry.message.exchange))
                && (!text.contains("topic '") || text.contains(&format!("topic '{}'", entry.message.routing_key)))
        };
        let mut rows = self.rows();
        let any_named = rows.entries.iter().any(|(_, entry)| named(entry));
        Some(rows.charge(any_named, |entry| if any_named { named(entry) } else { entry.on_the_wire }))
    }

    /// Charges a refusal to the answers to addresses of direct reply-to that were on the wire, and to nothing else.
    pub(super) fn refuse_answers(&self) -> Charged {
        let is_answer = |entry: &Entry| entry.message.routing_key.starts_with(DIRECT_REPLY_TO);
        self.rows().charge(true, |entry| entry.on_the_wire && is_answer(entry))
    }

    /// Takes out every entry.
    pub(super) fn drain(&self) -> Vec<Entry> {
        let mut rows = self.rows();
        rows.lines = Lines::default();
        let mut entries = std::mem::take(&mut rows.entries);
        drop(rows);
        entries.drain().collect()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Whether the entry stays: it is on the wire from now on, or waits in the line of its key. False if its sender has
    /// withdrawn it.
    fn goes(&mut self, entry: &mut Entry, sequence: u64) -> bool {
        if self.lines.is_open_for(&entry.message) {
            entry.on_the_wire = entry.reply.depart();
            return entry.on_the_wire;
        }
        if !self.lines.may_go(key_of(&entry.message), sequence) {
            return true;
        }
        entry.on_the_wire = entry.reply.depart();
        if !entry.on_the_wire {
            self.lines.gone(key_of(&entry.message), sequence, Instant::now());
        }
        entry.on_the_wire
    }

    /// Whether the refusal of an entry passes. Then the entry waits to be published again.
    fn waits_after(&mut self, sequence: u64, outcome: &SendOutcome, passing: &Passing) -> bool {
        if !matches!(outcome, SendOutcome::Nacked | SendOutcome::Returned(_)) {
            return false;
        }
        let now = Instant::now();
        if matches!(outcome, SendOutcome::Nacked)
            && let Some(entry) = self.entries.get(sequence)
        {
            let key = key_of(&entry.message);
            if !self.lines.is_proven(&key) {
                self.sessions.refused(&key);
            }
        }
        // A suspect is on the wire to find out whether the broker takes it.
        let Some(entry) = self.entries.get_mut(sequence).filter(|entry| entry.refusals == 0) else { return false };
        let key = key_of(&entry.message);
        let since = self.lines.refused_since(&key, now);
        let until = passing.until(&entry.message, outcome, since, entry.reply.deadline());
        let Some(until) = until else { return false };
        let longest = LONGEST_WAIT.min(until.saturating_duration_since(since) / 2);
        if now + longest > until {
            return false;
        }
        entry.on_the_wire = false;
        self.lines.refused(key, sequence, &waits(longest), now);
        true
    }

    /// Takes out an entry that the broker has taken, and gives the entries that may be published now.
    fn taken(&mut self, sequence: u64) -> (Option<Entry>, VecDeque<u64>) {
        let entry = self.entries.remove(sequence);
        let is_of_interest = !self.lines.is_empty() || !self.sessions.is_empty();
        let next = match &entry {
            Some(entry) if is_of_interest => {
                let key = key_of(&entry.message);
                self.sessions.taken(&key);
                self.lines.taken(key, sequence, Instant::now())
            }
            _ => VecDeque::new(),
        };
        (entry, next)
    }

    /// Takes out an entry that the broker has not taken.
    fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let entry = self.entries.remove(sequence)?;
        if !self.lines.is_empty() {
            self.lines.gone(key_of(&entry.message), sequence, Instant::now());
        }
        Some(entry)
    }

    /// Puts entries that have waited on the wire. Those that were withdrawn are taken out, and counted in `withdrawn`.
    fn release(&mut self, waited: impl IntoIterator<Item = u64>, withdrawn: &mut usize) -> Vec<Numbering> {
        let mut released = Vec::new();
        for sequence in waited {
            let Some(entry) = self.entries.get_mut(sequence) else { continue };
            entry.on_the_wire = !entry.withdrawn() && entry.reply.depart();
            match entry.on_the_wire {
                true => released.push((sequence, Arc::clone(&entry.message))),
                false => *withdrawn += self.remove(sequence).map_or(0, |entry| entry.items()),
            }
        }
        released
    }

    /// Charges one refusal to each entry that `is_about` picks, and takes out those that have two. `all_to_blame`: the
    /// refusal is about all of these entries; else it is about one of them, and nobody knows which.
    fn charge(&mut self, all_to_blame: bool, is_about: impl Fn(&Entry) -> bool) -> Charged {
        let (mut twice, mut kept) = (Vec::new(), 0);
        for (sequence, entry) in self.entries.iter_mut().filter(|(_, entry)| is_about(entry)) {
            entry.refusals = entry.refusals.saturating_add(1);
            if entry.refusals > 1 {
                twice.push(sequence);
            } else if all_to_blame || kept == 0 {
                kept += entry.items();
            }
        }
        let refused: Vec<_> = twice.iter().filter_map(|sequence| self.entries.remove(*sequence)).collect();
        let blamed = kept + refused.iter().map(Entry::items).sum::<usize>();
        Charged { refused, blamed }
    }
}

/// Whether the broker may have closed an earlier channel over this entry, which is not published again yet.
fn is_suspect(entry: &Entry) -> bool {
    entry.refusals > 0 && !entry.on_the_wire
}
