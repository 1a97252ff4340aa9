//! The send queue of a publisher: every message that the publisher has accepted and not yet settled. A send queue
//! outlives every channel, connection and actor of its publisher.
//!
//! | file | noun |
//! |---|---|
//! | `queue.rs` | [`SendQueue`]: the mailbox, and what the other files hold, in one place |
//! | `fed_by.rs` | `FedBy`: the stores that feed the publisher |
//! | `reserved.rs` | [`Reserved`]: a place in the mailbox or in the journal |
//! | `books.rs` | `Books`: how many messages are unsettled, the totals, and what a settled entry does to both |
//! | `lines.rs` | `Lines`: the order of a key's messages while a queue takes none |
//! | `sessions.rs` | `Sessions`: the queues that may refuse everything on the channel |
//! | `unsettled.rs` | `Unsettled`: the entries on the wire, and those that the next channel publishes first |
//! | `direct.rs` | `Direct`: the current channel, and the short way to it |
//! | `on_channel.rs` | [`OnChannel`]: the actor's end of a channel; [`UnsentEntries`]: entries not published yet |
//!
//! A file imports only from files below it in this order: `on_channel`, `queue`, `direct`, `unsettled`, `sessions`,
//! `lines`, `books`, `reserved`, `fed_by`.
//!
//! # Locks
//!
//! "A sender" is a task of the application, on any thread. "The actor" is the publisher's actor, on an I/O thread of
//! the service. Only the two locks of tokio are held across an await.
//!
//! 1. `SendQueue::receiver` (tokio) protects the reading end of the mailbox. Taken by the actor, which holds it for as
//!    long as it has a channel, and by `close`.
//! 2. `Ledger::reader` (tokio) protects the reading end of the journal. Taken by the actor while it waits for a record.
//! 3. `Batcher::sending` protects the order in which batches are sealed and sent. Taken by a sender whose batch is full
//!    or which needs room, by the actor when a batch is due, by `flush`, by `close`, and by the drop of the last
//!    handle.
//! 4. `Batcher::open` protects the open batches and the times at which they are due. Taken by every sender of a route
//!    with batches, by the actor, and by `stats`.
//! 5. `Direct::current` protects the current channel and its `ConfirmTracker`. Taken by a sender with `try_lock` only,
//!    and by the actor.
//! 6. `Unsettled::rows` protects the unsettled entries and the next sequence number. Taken by the holder of lock 5 that
//!    publishes, by the actor, by `close`, and by `status`.
//! 7. `Ledger::waiting` protects the table of senders that wait for journaled messages. Taken by a sender, by the actor
//!    under lock 2, by `close`, and by the journal's thread.
//! 8. `Ledger::again` protects the journaled messages that wait for another try. Taken by the actor under lock 2, by
//!    any thread that asks how many messages are outstanding, under lock 4, and by any thread that drops a `Custody`.
//! 9. `Pending::hand_back` protects the way of a failed journaled message back to its senders. Taken by a sender and by
//!    the actor.
//! 10. `SendQueue::fed_by` protects the list of stores that feed the publisher. Taken by the thread that adds one, and
//!     by `backlog`.
//! 11. `UnconfirmedKeys::keys` protects which routing keys have something unconfirmed. Taken by a sender and by the
//!     actor under lock 4, and by any thread that tells or drops an outcome.
//!
//! Order: a thread that holds a lock takes only locks with a higher number. Further rules keep the locks short:
//!
//! - Lock 4 is released before a batch is sealed, so that senders fill the next batch meanwhile. Lock 3 stays held
//!   until the batch is published or is in its place.
//! - A sender never waits for lock 5. If the lock is taken, the message of the sender goes to the mailbox.
//! - While messages wait in lines, the actor holds lock 5 from the settlement of a message to the publishing of those
//!   that waited for it, so that no sender goes past them.
//! - Locks 6 to 11 are released before anything is published. Lock 6 is also released before a sender is told of an
//!   outcome, except if the sender has withdrawn its message or is gone.
//! - Under lock 6, the lock of the service's `TopologyStore` is taken, under which nothing else is.
//! - lapin and the store of the journal have locks of their own, which are taken under locks 2, 4, 5, 7 and 9.
//!   Neither of them calls back into this crate under a lock of its own: the journal's thread tells the `Ledger` of a
//!   record that could not be written, and takes lock 7 for it.
//!
//! Some state has no lock, because every message reads or writes it: `Tally` (counters and a
//! [`Notify`](tokio::sync::Notify)), `Direct::behind`, `SendQueue::closed` and `SendQueue::most_header_bytes`.
//! `Direct::behind` is raised without lock 5, because a sender raises it when it did not get that lock.

mod books;
mod direct;
mod fed_by;
mod lines;
mod on_channel;
mod queue;
mod reserved;
mod sessions;
pub(crate) mod status;
mod unsettled;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    on_channel::{OnChannel, UnsentEntries},
    queue::{LOOK, OpenBatches, SendQueue, SendSettings},
    reserved::Reserved,
};
