//! A place that is reserved before there is a message to put into it.

use tokio::sync::mpsc;

use crate::{flow::budget::Room, publish::entry::Entry};

/// A place for one message or one envelope, in the mailbox or in the journal. Dropped unused, it is free again.
pub(crate) enum Reserved {
    Mailbox { slot: mpsc::OwnedPermit<Entry>, room: Room },
    Journal(fluffle_store::Place),
}
