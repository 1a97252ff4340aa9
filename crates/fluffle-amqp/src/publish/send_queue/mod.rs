//! The send queue of a publisher: every message that the publisher has accepted and not yet settled. A send queue outlives
//! every channel, connection and actor of its publisher.
//!
//! | file | noun |
//! |---|---|
//! | `queue.rs` | [`SendQueue`]: the mailbox, and what the other files hold, in one place |
//! | `reserved.rs` | [`Reserved`]: a place in the mailbox or in the journal |
//! | `books.rs` | `Books`: how many messages are unsettled, the totals, and what a settled entry does to both |
//! | `unsettled.rs` | `Unsettled`: the entries on the wire, and those that the next channel publishes first |
//! | `direct.rs` | `Direct`: the current channel, and the short way to it |
//! | `on_channel.rs` | [`OnChannel`]: the actor's end of the current channel; [`Waiting`]: entries taken and not published |
//!
//! A file imports only from files below it in this order: `on_channel`, `queue`, `direct`, `unsettled`, `books`, `reserved`.
//!
//! # Locks
//!
//! "A sender" is a task of the application, on any thread. "The actor" is the publisher's actor, on an I/O thread of the
//! service. Only the two locks of tokio are held across an await.
//!
//! | nr. | lock | protects | taken by |
//! |---|---|---|---|
//! | 1 | `SendQueue::receiver` (tokio) | the reading end of the mailbox | the actor, for as long as it has a channel; `close` |
//! | 2 | `Ledger::reader` (tokio) | the reading end of the journal | the actor, while it waits for the next record |
//! | 3 | `Batcher::sending` | the order in which batches are sealed and sent | a sender whose batch is full or must make room; the actor, when a batch is due; `flush`; the last handle's drop; `close` |
//! | 4 | `Batcher::open` | the open batches and when they are due | every sender of a route with batches; the actor; `stats` |
//! | 5 | `Direct::current` | the current channel and its `ConfirmTracker` | a sender, by `try_lock`; the actor |
//! | 6 | `Unsettled::rows` | the unsettled entries and the next sequence number | whoever holds lock 5 and publishes; the actor; `close` |
//! | 7 | `Ledger::waiting` | which sender waits for which journaled message | a sender; the actor, under lock 2; `close` |
//! | 8 | `Ledger::again` | journaled messages that wait for another try | the actor, under lock 2; `stats`, under lock 4; any thread that drops a `Custody` |
//! | 9 | `Pending::hand_back` | the message that its senders are handed back, and how many of them have it | a sender; the actor |
//! | 10 | `SendQueue::fed_by` | the stores that feed the publisher | whoever adds one, or counts the backlog |
//!
//! Order: a thread that holds a lock takes only locks with a higher number, with these further rules, which keep each lock
//! short:
//!
//! - Lock 4 is released before a batch is sealed, so that senders fill the next batch meanwhile. Lock 3 stays held until
//!   the batch is published or is in its place.
//! - A sender never waits for lock 5. If the lock is taken, the sender's message goes to the mailbox.
//! - Locks 6 to 10 are released before anything is published. A sender is told of its outcome after lock 6 is released; the
//!   exceptions are senders that have withdrawn their messages, or of whom nobody is left.
//! - lapin's own locks and those of the journal's store are taken under locks 5, 7 and 9; neither calls back into this crate.
//!
//! Without a lock: `Books` (counters and [`Notify`](tokio::sync::Notify)), `Direct::behind`, `SendQueue::closed`, and
//! `SendQueue::most_header_bytes`, because every sender reads or writes them for every message. `Direct::behind` is raised
//! without lock 5 because a sender raises it exactly when it did not get that lock.

mod books;
mod direct;
mod on_channel;
mod queue;
mod reserved;
mod unsettled;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    on_channel::{OnChannel, Waiting},
    queue::{LOOK, OpenBatches, SendQueue, SendSettings},
    reserved::Reserved,
};
