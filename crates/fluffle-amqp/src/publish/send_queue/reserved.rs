//! Places for what is to come.

use tokio::sync::mpsc;

use crate::publish::send_queue::SendQueue;
use crate::{
    flow::budget::{NoRoom, Room},
    publish::{entry::Entry, error::PublishErrorKind, message::Prepared},
};

/// A place for what is to come, in the mailbox or in the journal.
pub(crate) enum Reserved {
    Mailbox { slot: mpsc::OwnedPermit<Entry>, room: Room },
    Journal(fluffle_store::Place),
}

impl SendQueue {
    fn refusal(&self, no_room: NoRoom) -> PublishErrorKind {
        match no_room {
            NoRoom::Full => PublishErrorKind::Full,
            NoRoom::Closed => self.not_sent(),
        }
    }

    /// Waits for a place for up to `bytes` of body. Cancellation safe.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reserved, PublishErrorKind> {
        if let Some(ledger) = self.ledger()? {
            return ledger.reserve(bytes).await.map(Reserved::Journal);
        }
        let room = self.bytes.take(bytes).await.map_err(|no_room| self.refusal(no_room))?;
        match self.sender.clone().reserve_owned().await {
            Ok(slot) if !self.is_closed() => Ok(Reserved::Mailbox { slot, room }),
            _ => Err(self.not_sent()),
        }
    }

    /// Waits for a place for this message. Cancellation safe.
    pub(crate) async fn reserve_for(&self, message: &Prepared) -> Result<Reserved, PublishErrorKind> {
        match self.ledger()? {
            Some(ledger) => ledger.reserve_for(message).await.map(Reserved::Journal),
            None => self.reserve(message.body.len()).await,
        }
    }

    /// A place, if there is one now; never in a journal, whose disk has to be waited for.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<Reserved, PublishErrorKind> {
        if self.ledger()?.is_some() {
            return Err(PublishErrorKind::Full);
        }
        let room = self.bytes.try_take(bytes).map_err(|no_room| self.refusal(no_room))?;
        match self.sender.clone().try_reserve_owned() {
            Ok(slot) if !self.is_closed() => Ok(Reserved::Mailbox { slot, room }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(PublishErrorKind::Full),
            _ => Err(self.not_sent()),
        }
    }

    /// Publishes what has been [counted](Self::count), or puts it in its place. Waits for nothing; the order is that of these
    /// calls.
    pub(crate) fn send(&self, place: Reserved, mut entry: Entry) {
        match (place, &self.journal) {
            (Reserved::Mailbox { slot, mut room }, _) => {
                room.shrink(entry.message.body.len());
                entry.room = Some(room);
                if let Err(entry) = self.publish_now(entry) {
                    self.direct.wait();
                    slot.send(entry);
                }
            }
            (Reserved::Journal(place), Some(ledger)) => ledger.send(place, entry),
            // A journal's place is only ever given out by the journal.
            (Reserved::Journal(_), None) => {}
        }
    }
}
