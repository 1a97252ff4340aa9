//! The entries that are on the wire, those that the next channel publishes first, and what becomes of both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    base::{numbered::Numbered, requests::DIRECT_REPLY_TO},
    link::class::reply,
    publish::{
        confirm::{ConfirmVerdict, TooLarge},
        entry::Entry,
        error::PublishErrorKind,
        message::Prepared,
        outcome::SendOutcome,
        send_queue::books::Books,
    },
};

/// A message to publish, and the sequence number that its verdict comes back under.
pub(super) type Numbering = (u64, Arc<Prepared>);

/// Entries by sequence number, oldest first.
#[derive(Default)]
pub(super) struct Unsettled {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    entries: Numbered<Entry>,
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
    /// Enters `entries` as on the wire, and gives what is to be published now. If a sender has withdrawn its message,
    /// its entry is dropped instead.
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
            if entry.withdrawn() || on_the_wire && !entry.reply.depart() {
                withdrawn += entry.items();
                continue;
            }
            if on_the_wire && let Some(now) = *now.get_or_insert_with(|| books.now()) {
                entry.times.sent.get_or_insert(now);
                // For what comes from a journal, or was accepted before anybody listened.
                entry.times.accepted.get_or_insert(now);
            }
            let sequence = rows.next;
            rows.next += 1;
            taken.push((sequence, Arc::clone(&entry.message)));
            entry.on_the_wire = on_the_wire;
            rows.entries.insert(sequence, entry);
        }
        drop(rows);
        books.withdrawn(withdrawn);
        taken
    }

    /// The messages that an earlier channel left without a verdict, oldest first, to be published again under the same
    /// ids. Suspects are left out, see [`suspect`](Self::suspect).
    pub(super) fn left_over(&self, books: &Books) -> Vec<Numbering> {
        let mut withdrawn_items = 0;
        let mut rows = self.rows();
        rows.entries.retain(|entry| {
            let withdrawn = entry.withdrawn() || entry.refusals == 0 && !entry.reply.depart();
            if withdrawn {
                withdrawn_items += entry.items();
            }
            !withdrawn
        });
        let on_the_wire = rows.entries.iter().filter(|(_, entry)| entry.on_the_wire);
        let republished = on_the_wire.map(|(_, entry)| entry.items()).sum();
        for (_, entry) in rows.entries.iter_mut() {
            entry.on_the_wire = entry.refusals == 0;
        }
        let again = rows.entries.iter().filter(|(_, entry)| entry.on_the_wire);
        let again = again.map(|(sequence, entry)| (sequence, Arc::clone(&entry.message))).collect();
        drop(rows);
        books.withdrawn(withdrawn_items);
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

    /// The sequence number of the oldest entry without a verdict, and that of the next entry.
    pub(super) fn progress(&self) -> (Option<u64>, u64) {
        let rows = self.rows();
        (rows.entries.first().map(|(sequence, _)| sequence), rows.next)
    }

    /// Tells the senders. [`ConfirmVerdict::Lost`] settles nothing: the entry stays for the next channel.
    pub(super) fn settle(&self, verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>, books: &Books) {
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
            let settled = self.rows().entries.remove(sequence);
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
        let mut entries = std::mem::take(&mut self.rows().entries);
        entries.drain().collect()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
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
