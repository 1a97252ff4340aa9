//! What is on the wire, and what becomes of it.

use std::sync::{Arc, atomic::Ordering};

use crate::publish::send_queue::SendQueue;
use crate::{
    base::requests::DIRECT_REPLY_TO,
    link::class::reply,
    publish::{
        confirm::{ConfirmVerdict, TooLarge},
        entry::Entry,
        error::PublishErrorKind,
        journal::{Custody, nobody},
        message::Prepared,
        outcome::SendOutcome,
    },
};

impl SendQueue {
    /// Entries that are published now are unsettled from here on, but for those whose callers have withdrawn them.
    pub(crate) fn take(&self, entries: impl IntoIterator<Item = Entry>) -> Vec<(u64, Arc<Prepared>)> {
        self.settle_later(entries, true)
    }

    /// Entries that the next channel is to publish before all that come after them.
    pub(super) fn keep(&self, entries: impl IntoIterator<Item = Entry>) {
        self.settle_later(entries, false);
    }

    fn settle_later(&self, entries: impl IntoIterator<Item = Entry>, on_the_wire: bool) -> Vec<(u64, Arc<Prepared>)> {
        let entries = entries.into_iter();
        let mut taken = Vec::with_capacity(entries.size_hint().0);
        let mut unsettled = self.unsettled();
        for mut entry in entries {
            if entry.withdrawn() || on_the_wire && !entry.reply.depart() {
                self.done(entry.items());
                continue;
            }
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            taken.push((sequence, Arc::clone(&entry.message)));
            entry.on_the_wire = on_the_wire;
            unsettled.insert(sequence, entry);
        }
        taken
    }

    /// What an earlier channel left without a verdict, oldest first, to be published again under the same ids; but for
    /// those the broker may have closed that channel over, see [`suspect`](Self::suspect).
    pub(crate) fn left_over(&self) -> Vec<(u64, Arc<Prepared>)> {
        let mut unsettled = self.unsettled();
        unsettled.retain(|entry| {
            let withdrawn = entry.withdrawn() || entry.refusals == 0 && !entry.reply.depart();
            if withdrawn {
                self.done(entry.items());
            }
            !withdrawn
        });
        let on_the_wire = unsettled.iter().filter(|(_, entry)| entry.on_the_wire);
        let items: usize = on_the_wire.map(|(_, entry)| entry.items()).sum();
        self.counters.republished.fetch_add(items as u64, Ordering::Relaxed);
        for (_, entry) in unsettled.iter_mut() {
            entry.on_the_wire = entry.refusals == 0;
        }
        let again = unsettled.iter().filter(|(_, entry)| entry.on_the_wire);
        again.map(|(sequence, entry)| (sequence, Arc::clone(&entry.message))).collect()
    }

    /// The next message the broker may have closed an earlier channel over. Such are published one at a time, with nothing
    /// else on the wire: what the broker refuses then is known, and the others are cleared.
    pub(crate) fn suspect(&self) -> Option<(u64, Arc<Prepared>)> {
        let mut unsettled = self.unsettled();
        unsettled.retain(|entry| {
            let withdrawn = entry.refusals > 0 && !entry.on_the_wire && !entry.reply.depart();
            if withdrawn {
                self.done(entry.items());
            }
            !withdrawn
        });
        let (sequence, entry) = unsettled.iter_mut().find(|(_, entry)| entry.refusals > 0 && !entry.on_the_wire)?;
        entry.on_the_wire = true;
        Some((sequence, Arc::clone(&entry.message)))
    }

    /// The oldest message without a verdict, and the sequence number the next one will get.
    pub(crate) fn progress(&self) -> (Option<u64>, u64) {
        let oldest = self.unsettled().first().map(|(sequence, _)| sequence);
        (oldest, self.sequence.load(Ordering::Relaxed))
    }

    /// Whether there are more of those.
    pub(crate) fn has_suspects(&self) -> bool {
        self.unsettled().iter().any(|(_, entry)| entry.refusals > 0 && !entry.on_the_wire)
    }

    /// Tells the callers. [`ConfirmVerdict::Lost`] settles nothing: the entry stays for the next channel.
    pub(crate) fn settle(&self, verdicts: impl IntoIterator<Item = (u64, ConfirmVerdict)>) {
        let counters = &self.counters;
        for (sequence, verdict) in verdicts {
            let (counter, outcome) = match verdict {
                ConfirmVerdict::Confirmed => (&counters.confirmed, SendOutcome::Confirmed),
                ConfirmVerdict::Written => (&counters.confirmed, SendOutcome::Written),
                ConfirmVerdict::Returned(returned) => (&counters.returned, SendOutcome::Returned(returned)),
                ConfirmVerdict::Nacked => (&counters.nacked, SendOutcome::Nacked),
                ConfirmVerdict::DoesNotFit(TooLarge { bytes, most }) => {
                    (&counters.failed, SendOutcome::Unsent(PublishErrorKind::HeadersTooLarge { bytes, most }))
                }
                ConfirmVerdict::Lost(_) => continue,
            };
            let settled = self.unsettled().remove(sequence);
            if let Some(entry) = settled {
                counter.fetch_add(entry.items() as u64, Ordering::Relaxed);
                self.answer(entry, outcome);
            }
        }
    }

    /// The broker closed the channel over something published on it: `error` with a permanent class.
    ///
    /// If the text names the exchange (and the topic), it is about all messages for it; else about something that was on
    /// the wire. The first time they are kept, for the topology is declared again before the next channel, and published
    /// one at a time if it is not known which; the second time they go back to their callers.
    ///
    /// Says whether other messages wait for the next channel. They need not wait long for it: a message is charged twice at most,
    /// so there are no more refusals than that.
    pub(crate) fn refuse(&self, error: &lapin::Error) -> bool {
        let Some((code, text)) = reply(error) else { return false };
        let named = |entry: &Entry| {
            text.contains(&format!("exchange '{}'", entry.message.exchange))
                && (!text.contains("topic '") || text.contains(&format!("topic '{}'", entry.message.routing_key)))
        };
        let any_named = self.unsettled().iter().any(|(_, entry)| named(entry));
        self.charge(code, &text, any_named, |entry| if any_named { named(entry) } else { entry.on_the_wire })
    }

    /// The broker closed the connection over an error of its own (541). RabbitMQ's channel crashes over an answer to an address of
    /// direct reply-to that it cannot read, and a request's sender writes what it likes there. So answers that were on the wire are
    /// refused as [`refuse`](Self::refuse) says, and no other message.
    pub(crate) fn refuse_answers(&self, error: &lapin::Error) {
        let Some((code, text)) = reply(error) else { return };
        self.charge(code, &text, true, |entry| {
            entry.on_the_wire && entry.message.routing_key.starts_with(DIRECT_REPLY_TO)
        });
    }

    /// A refusal for each message that it is `about`; with the second one it goes back to its caller. Says whether others wait.
    fn charge(&self, code: u16, text: &str, all_to_blame: bool, about: impl Fn(&Entry) -> bool) -> bool {
        let (given_back, kept) = {
            let (mut given_back, mut kept) = (Vec::new(), 0);
            let mut unsettled = self.unsettled();
            for (sequence, entry) in unsettled.iter_mut().filter(|(_, entry)| about(entry)) {
                entry.refusals = entry.refusals.saturating_add(1);
                if entry.refusals > 1 {
                    given_back.push(sequence);
                } else if all_to_blame || kept == 0 {
                    // Of those that are not named one is to blame.
                    kept += entry.items();
                }
            }
            (given_back.iter().filter_map(|sequence| unsettled.remove(*sequence)).collect::<Vec<_>>(), kept)
        };
        let about = kept + given_back.iter().map(Entry::items).sum::<usize>();
        // Before anybody is told, and sends more.
        let others_wait = self.outstanding() > about;
        for entry in given_back {
            self.counters.failed.fetch_add(entry.items() as u64, Ordering::Relaxed);
            self.answer(entry, SendOutcome::Refused { code, text: text.to_owned() });
        }
        others_wait
    }

    fn answer(&self, mut entry: Entry, outcome: SendOutcome) {
        let good = matches!(outcome, SendOutcome::Confirmed | SendOutcome::Written);
        let Some(ledger) = &self.journal else {
            if !good && entry.reply.unheard() {
                let id = &entry.message.id;
                tracing::error!(publisher = %self.name, message_id = %id, ?outcome, "a message failed and nobody waits for it");
            }
            let items = entry.items();
            entry.reply.settle(outcome);
            return self.done(items);
        };
        // An entry that is tried again has nobody who waits.
        let reply = std::mem::replace(&mut entry.reply, nobody(&entry.message));
        if good {
            entry.position.into_iter().for_each(|position| ledger.settled(position));
            reply.settle(outcome);
        } else {
            // Refused or dropped unread, it is the journal's again.
            let custody = Custody::new(ledger, entry, outcome.clone());
            reply.settle_in_custody(outcome, custody);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lapin::{BasicProperties, ErrorKind, protocol::AMQPError};
    use tokio::time::Instant;

    use super::*;
    use crate::publish::error::PublishErrorKind;
    use crate::publish::outcome::{Address, Kept, Pending};
    use crate::publish::travel::NotSent;

    fn refusal(code: u16, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
    }

    fn entry(id: &str, exchange: &str, key: &str) -> (Entry, Arc<Pending>) {
        let message = Prepared::new(id, exchange, key, BasicProperties::default(), bytes::Bytes::new());
        let to = Address { exchange: exchange.into(), routing_key: key.into() };
        let (pending, reply) = Pending::new(id.into(), to, Instant::now(), Kept::No);
        (Entry::new(message, reply, false), pending)
    }

    fn told(pending: &Pending) -> Option<SendOutcome> {
        use futures_util::FutureExt;
        pending.outcome().now_or_never().cloned()
    }

    async fn on_the_wire(send_queue: &SendQueue, messages: &[(&str, &str, &str)]) -> Vec<Arc<Pending>> {
        let mut outcomes = Vec::new();
        for (id, exchange, key) in messages {
            let (entry, outcome) = entry(id, exchange, key);
            send_queue.accept(entry).await.unwrap();
            let entry = send_queue.inbox().await.recv().await.unwrap();
            assert_eq!(send_queue.take([entry]).len(), 1);
            outcomes.push(outcome);
        }
        outcomes
    }

    fn ids(messages: Vec<(u64, Arc<Prepared>)>) -> Vec<String> {
        messages.into_iter().map(|(_, message)| message.id().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_refusal_that_names_nothing_is_pinned_on_the_one_message_that_repeats_it() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let outcomes = on_the_wire(&send_queue, &[("a", "x", "k"), ("bad", "x", "k"), ("c", "x", "k")]).await;
        let error = refusal(406, "PRECONDITION_FAILED - message size 20 is larger than configured max size 10");
        send_queue.refuse(&error);
        assert_eq!(ids(send_queue.left_over()), [""; 0], "all three are suspects, published one at a time");
        let (first, message) = send_queue.suspect().unwrap();
        assert_eq!(message.id(), "a");
        send_queue.settle([(first, ConfirmVerdict::Confirmed)]);
        assert_eq!(send_queue.suspect().unwrap().1.id(), "bad");
        send_queue.refuse(&error);
        assert!(matches!(told(&outcomes[0]), Some(SendOutcome::Confirmed)));
        assert!(matches!(told(&outcomes[1]), Some(SendOutcome::Refused { code: 406, .. })));
        assert!(told(&outcomes[2]).is_none(), "it was not on the wire: nothing is known against it");
        send_queue.left_over();
        assert_eq!(send_queue.suspect().unwrap().1.id(), "c");
        assert!(!send_queue.has_suspects());
    }

    #[tokio::test]
    async fn a_refusal_that_names_an_exchange_is_about_its_messages_and_no_others() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let outcomes = on_the_wire(&send_queue, &[("a", "missing", "k"), ("b", "x", "k"), ("c", "missing", "k")]).await;
        let error = refusal(404, "NOT_FOUND - no exchange 'missing' in vhost '/'");
        send_queue.refuse(&error);
        assert_eq!(ids(send_queue.left_over()), ["b"]);
        assert_eq!(send_queue.suspect().unwrap().1.id(), "a");
        send_queue.refuse(&error);
        for (outcome, refused) in outcomes.iter().zip([true, false, true]) {
            assert_eq!(matches!(told(outcome), Some(SendOutcome::Refused { code: 404, .. })), refused);
        }
    }

    #[tokio::test]
    async fn what_its_sender_was_told_is_not_sent_is_not_sent_though_he_still_holds_it() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let ((entry, told), (kept, held)) = (self::entry("a", "x", "k"), self::entry("b", "x", "k"));
        send_queue.keep([kept]);
        send_queue.accept(entry).await.unwrap();
        let told_so = told.confirmed().await;
        assert!(matches!(told_so, Err(PublishErrorKind::NotSent(NotSent::Deadline))));
        let entry = send_queue.inbox().await.recv().await.unwrap();
        assert_eq!(send_queue.take([entry]).len(), 0);
        assert!(matches!(held.confirmed().await, Err(PublishErrorKind::NotSent(NotSent::Deadline))));
        assert_eq!(ids(send_queue.left_over()), [""; 0], "nor is what a channel had taken and not published");
    }

    #[tokio::test]
    async fn an_error_of_the_brokers_own_is_charged_to_answers_and_to_nothing_else() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let answer = "amq.rabbitmq.reply-to.a.b";
        let outcomes = on_the_wire(&send_queue, &[("a", "", "q.dead"), ("b", "", answer)]).await;
        let error = refusal(541, "INTERNAL_ERROR");
        send_queue.refuse_answers(&error);
        assert_eq!(ids(send_queue.left_over()), ["a"]);
        assert_eq!(send_queue.suspect().unwrap().1.id(), "b");
        send_queue.refuse_answers(&error);
        assert!(told(&outcomes[0]).is_none());
        assert!(matches!(told(&outcomes[1]), Some(SendOutcome::Refused { code: 541, .. })));
    }

    #[tokio::test]
    async fn closing_hands_everything_back_and_leaves_nothing_on_the_books() {
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
        let mut outcomes = on_the_wire(&send_queue, &[("a", "x", "k")]).await;
        let (waiting, outcome) = entry("b", "x", "k");
        send_queue.accept(waiting).await.unwrap();
        outcomes.push(outcome);
        send_queue.close(NotSent::Ended, std::time::Instant::now()).await;
        let [sent, unsent] = outcomes.as_slice() else { panic!("two") };
        assert!(matches!(told(sent), Some(SendOutcome::Closed)));
        let not_sent = |kind: &PublishErrorKind| matches!(kind, PublishErrorKind::NotSent(NotSent::Ended));
        assert!(matches!(told(unsent), Some(SendOutcome::Unsent(kind)) if not_sent(&kind)));
        assert_eq!(send_queue.outstanding(), 0);
        assert!(send_queue.accept(entry("c", "x", "k").0).await.is_err());
    }
}
