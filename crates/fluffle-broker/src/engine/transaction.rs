//! Transactions of a channel: publishes and settlements wait for the commit.

use super::{ChannelKey, Engine, consumer::Transaction, refusal::Refusal};

impl Engine {
    pub(crate) fn select_transaction(&mut self, channel: ChannelKey) -> Result<(), Refusal> {
        let Some(open) = self.channels.get_mut(channel) else { return Ok(()) };
        if open.confirms.is_some() {
            return Err(Refusal::precondition("cannot switch from confirm to tx mode"));
        }
        open.transaction.get_or_insert_with(Transaction::default);
        Ok(())
    }

    pub(crate) fn commit(&mut self, channel: ChannelKey) -> Result<(), Refusal> {
        let Transaction { published, settled } = self.take_transaction(channel)?;
        for (message, mandatory) in published {
            if let Err(refusal) = self.accept(channel, message, mandatory) {
                self.forget(channel, Transaction { published: Vec::new(), settled });
                return Err(refusal);
            }
        }
        self.check_settled(&settled)?;
        self.conclude(channel, settled);
        Ok(())
    }

    /// Drops the published messages. Settled deliveries are unacknowledged again.
    pub(crate) fn roll_back(&mut self, channel: ChannelKey) -> Result<(), Refusal> {
        let transaction = self.take_transaction(channel)?;
        self.forget(channel, transaction);
        Ok(())
    }

    /// Rolls back an uncommitted transaction when its channel ends.
    pub(super) fn end_transaction(&mut self, channel: ChannelKey) {
        if let Some(transaction) = self.channels.get_mut(channel).and_then(|open| open.transaction.take()) {
            self.forget(channel, transaction);
        }
    }

    fn forget(&mut self, channel: ChannelKey, transaction: Transaction) {
        let Some(open) = self.channels.get_mut(channel) else { return };
        open.unacked.put_back(transaction.settled.into_iter().map(|(pending, _)| pending).collect());
    }

    fn take_transaction(&mut self, channel: ChannelKey) -> Result<Transaction, Refusal> {
        let transaction = self.channels.get_mut(channel).and_then(|open| open.transaction.as_mut());
        transaction.map(std::mem::take).ok_or_else(|| Refusal::precondition("channel is not transactional"))
    }
}
